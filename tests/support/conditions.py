"""Random conditions on a table r (id, tenant_id, other, flag) of three tenants, t1 to t3."""

from __future__ import annotations

from hypothesis import strategies as st

values = st.sampled_from(["'t1'", "'t2'", "NULL", "'t1'::text"])
words = st.sampled_from(["t1", "t2", "NULL"])
columns = st.sampled_from(["tenant_id", "r.tenant_id", "other", "tenant_id::text", "lower(other)"])
operands = st.one_of(
    columns, columns, values, st.builds("COALESCE({}, {})".format, columns, values)
)
leaves = st.one_of(
    st.builds("{} = {}".format, operands, operands),
    st.builds("{} = {}".format, st.just("tenant_id"), values),
    st.builds("{} <> {}".format, columns, values),
    st.builds("{} IS NOT DISTINCT FROM {}".format, columns, operands),
    st.builds("{} IS DISTINCT FROM {}".format, columns, values),
    st.builds("{} IN ({}, {})".format, columns, values, values),
    st.builds("{} NOT IN ({}, {})".format, columns, values, values),
    st.builds("{} = ANY (ARRAY[{}, {}])".format, columns, values, values),
    st.builds("{} = ANY ('{{{},{}}}')".format, columns, words, words),
    st.builds("{} <> ALL (ARRAY[{}, {}])".format, columns, values, values),
    st.builds("{} = ALL (ARRAY[{}]::text[])".format, columns, values),
    st.builds("({}, {}) = ({}, {})".format, columns, columns, values, values),
    st.builds("({}, {}) <> ({}, {})".format, columns, columns, values, values),
    st.builds("{} BETWEEN {} AND {}".format, columns, values, values),
    st.builds("{} IS NULL".format, columns),
    st.builds("{} IS NOT NULL".format, columns),
    st.sampled_from(
        ["flag", "NOT flag", "true", "false", "NULL::bool", "1 = 1", "1 = 2", "id = 1"]
    ),
)


def compounds(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("({} AND {})".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("NOT ({})".format, inner),
        st.builds("({}) IS {}".format, inner, st.sampled_from(["TRUE", "FALSE", "NOT TRUE"])),
        st.builds("({}) IS {}".format, inner, st.sampled_from(["NOT FALSE", "UNKNOWN"])),
        st.builds("({}) {} {}".format, inner, st.sampled_from(["=", "<>"]), st.booleans()),
        st.builds("({}) IS NOT DISTINCT FROM {}".format, inner, st.booleans()),
        st.builds("COALESCE({}, {})".format, inner, inner),
        st.builds("CASE WHEN {} THEN {} ELSE {} END".format, inner, inner, inner),
        st.builds("CASE WHEN {} THEN {} END".format, inner, inner),
    )


conditions = st.recursive(leaves, compounds, max_leaves=6)
