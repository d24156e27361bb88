// pgJDBC: three connections that are all kept open; says "ready" when their work is done.
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;

public class Pooled {
    public static void main(String[] arguments) throws Exception {
        Properties words = new Properties();
        words.setProperty("user", System.getenv("PGUSER"));
        words.setProperty("password", System.getenv("PGPASSWORD"));
        words.setProperty("ApplicationName", "jdbc");
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT")
            + "/" + System.getenv("PGDATABASE");
        List<Connection> all = new ArrayList<>();
        for (int at = 0; at < 3; at++) {
            all.add(DriverManager.getConnection(url, words));
        }
        // From the fifth time on pgJDBC prepares a statement on the server.
        for (int round = 0; round < 8; round++) {
            for (Connection one : all) {
                work(one, round);
            }
        }
        System.out.println("ready");
        while (System.in.read() >= 0) { }
        for (Connection one : all) {
            one.close();
        }
    }

    static void work(Connection one, int round) throws Exception {
        one.setReadOnly(round % 2 == 0);
        one.setReadOnly(false);
        one.setAutoCommit(false);
        try (PreparedStatement statement = one.prepareStatement(
                "INSERT INTO written (body) VALUES (?)", PreparedStatement.RETURN_GENERATED_KEYS)) {
            statement.setString(1, "" + round);
            statement.executeUpdate();
        }
        one.commit();
        one.setAutoCommit(true);
        try (PreparedStatement statement = one.prepareStatement("SELECT ?::int")) {
            statement.setInt(1, round);
            try (ResultSet rows = statement.executeQuery()) {
                if (!rows.next() || rows.getInt(1) != round) {
                    throw new Exception("a foreign reply");
                }
            }
        }
        if (!one.isValid(10)) {
            throw new Exception("not valid");
        }
    }
}
