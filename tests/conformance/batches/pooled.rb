# ActiveRecord: a pool of three that are all kept open; says "ready" when their work is done.
require "active_record"

ActiveRecord::Base.establish_connection(
  adapter: "postgresql", host: ENV["PGHOST"], port: ENV["PGPORT"].to_i, username: ENV["PGUSER"],
  password: ENV["PGPASSWORD"], database: ENV["PGDATABASE"], pool: 3, encoding: "utf8",
  schema_search_path: "public", variables: { statement_timeout: "30s" }
)

class Written < ActiveRecord::Base
  self.table_name = "written"
end

barrier = Queue.new
threads = 3.times.map do |number|
  Thread.new do
    # Held to the end, so that there are three.
    ActiveRecord::Base.connection
    8.times do |round|
      made = Written.create!(body: "#{number} #{round}")
      raise "a foreign reply" unless Written.find(made.id).body == "#{number} #{round}"
      Written.transaction { Written.where(id: made.id).update_all(body: "again") }
    end
    ActiveRecord::Base.connection.reset! if number == 0
    barrier << true
    sleep 0.01 until barrier.closed?
  end
end
3.times { barrier.pop }
puts "ready"
STDOUT.flush
STDIN.read
barrier.close
threads.each(&:join)
