//! One connection to SQLite: opened with its settings, executing and fetching.
//!
//! Statements stand in the text both databases understand: `$1` is a *name* to SQLite, so values
//! are bound by name, and one parameter may stand twice.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags, ToSql};

use crate::database::StoreFault;
use crate::row::{Row, Value};

/// Most rows that one statement hands out; every caller's own limit lies far below.
pub(crate) const MAX_ROWS: usize = 10_000;

/// Statements kept prepared: all that the crate has.
const STATEMENTS: usize = 192;

/// The journal is cut back to this after a checkpoint, so that one burst does not keep the disk.
const JOURNAL_LIMIT: i64 = 16 * 1024 * 1024;

/// Nobody else writes the file; a backup tool may hold it for a moment.
const BUSY: Duration = Duration::from_secs(5);

/// Names of parameters, in their order.
const PARAMETERS: [&str; 20] = [
    "$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$9", "$10", "$11", "$12", "$13", "$14", "$15",
    "$16", "$17", "$18", "$19", "$20",
];

/// Opens the file for the one who writes; settings that could change it come later, in
/// [`durable`], when it is known to be ours.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, StoreFault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    prepared(Connection::open_with_flags(path, flags))
}

/// Opens the file for the one who reads: it cannot write, and its reads wait for no `fsync`.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreFault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    prepared(Connection::open_with_flags(path, flags))
}

/// A database in memory.
pub(crate) fn open_memory() -> Result<Connection, StoreFault> {
    prepared(Connection::open_in_memory())
}

fn prepared(opened: rusqlite::Result<Connection>) -> Result<Connection, StoreFault> {
    let connection = opened.map_err(fault)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(BUSY).map_err(fault)?;
    connection.pragma_update(None, "foreign_keys", "ON").map_err(fault)?;
    // A schema that somebody altered must not run functions in our name.
    connection.pragma_update(None, "trusted_schema", "OFF").map_err(fault)?;
    connection.pragma_update(None, "cell_size_check", "ON").map_err(fault)?;
    Ok(connection)
}

/// What makes an acknowledged commit survive a power cut.
pub(crate) fn durable(connection: &Connection) -> Result<(), StoreFault> {
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .map_err(fault)?;
    if mode != "wal" {
        return Err(StoreFault::Database(format!(
            "the file system keeps no write-ahead log (journal mode `{mode}`); put the data \
             directory on a local disk"
        )));
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(fault)?;
    // Replaced password hashes and keys do not linger in free pages; FAST costs no extra page.
    connection.pragma_update(None, "secure_delete", "FAST").map_err(fault)?;
    connection
        .pragma_update_and_check(None, "journal_size_limit", JOURNAL_LIMIT, |_| Ok(()))
        .map_err(fault)
}

/// Runs a statement; returns how many rows it changed.
pub(crate) fn execute(
    connection: &Connection,
    sql: &'static str,
    values: &[Value],
) -> Result<usize, StoreFault> {
    let mut statement = bound(connection, sql, values)?;
    statement.raw_execute().map_err(fault)
}

/// Runs a statement; returns its rows.
pub(crate) fn fetch(
    connection: &Connection,
    sql: &'static str,
    values: &[Value],
) -> Result<Vec<Row>, StoreFault> {
    let mut statement = bound(connection, sql, values)?;
    let columns: Rc<[String]> = statement.column_names().map(str::to_owned).collect();
    let mut found = Vec::new();
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().map_err(fault)? {
        if found.len() >= MAX_ROWS {
            return Err(StoreFault::Database(format!("a statement found over {MAX_ROWS} rows")));
        }
        let mut values = Vec::with_capacity(columns.len());
        for position in 0..columns.len() {
            values.push(value(row.get_ref(position).map_err(fault)?)?);
        }
        found.push(Row::new(columns.clone(), values));
    }
    Ok(found)
}

fn bound<'c>(
    connection: &'c Connection,
    sql: &'static str,
    values: &[Value],
) -> Result<CachedStatement<'c>, StoreFault> {
    let mut statement = connection.prepare_cached(sql).map_err(fault)?;
    // A parameter left out would be NULL: count them instead.
    if statement.parameter_count() != values.len() || values.len() > PARAMETERS.len() {
        return Err(StoreFault::Database(format!(
            "a statement takes {} values, not {}",
            statement.parameter_count(),
            values.len()
        )));
    }
    for (name, value) in PARAMETERS.iter().zip(values) {
        let place = statement.parameter_index(name).map_err(fault)?.ok_or_else(|| {
            StoreFault::Database(format!("a statement has no parameter `{name}`"))
        })?;
        statement.raw_bind_parameter(place, value).map_err(fault)?;
    }
    Ok(statement)
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Integer(value) => ValueRef::Integer(*value),
            Value::Text(value) => ValueRef::Text(value.as_bytes()),
            Value::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

fn value(read: ValueRef<'_>) -> Result<Value, StoreFault> {
    match read {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(value) => Ok(Value::Integer(value)),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::Text(text.to_owned())),
            Err(_) => Err(StoreFault::Database("a text is not UTF-8".into())),
        },
        ValueRef::Blob(bytes) => Ok(Value::Blob(bytes.to_owned())),
        ValueRef::Real(_) => Err(StoreFault::Database("a number is not whole".into())),
    }
}

/// SQLite's own words; they name tables and columns, never a bound value.
pub(crate) fn fault(error: rusqlite::Error) -> StoreFault {
    StoreFault::Database(error.to_string())
}

/// The same while opening, where a file that is no database, or a damaged one, has its remedy.
pub(crate) fn fault_of_file(path: &Path, error: rusqlite::Error) -> StoreFault {
    let path = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreFault::Foreign(format!(
            "`{path}` is not a database; name another file, or restore it from a backup"
        )),
        Some(ErrorCode::DatabaseCorrupt) => {
            StoreFault::Foreign(format!("`{path}` is damaged; restore it from a backup"))
        }
        Some(_) | None => StoreFault::Database(format!("cannot open `{path}`: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::bind;

    #[test]
    fn values_are_bound_by_name_and_counted() {
        let connection = open_memory().expect("memory");
        let rows = fetch(&connection, "SELECT $2 AS b, $1 AS a, $2 AS c", bind![1, "two"]);
        let row = rows.expect("a row").pop().expect("one");
        assert_eq!(row.integer("a").expect("a"), 1);
        assert_eq!(row.text("b").expect("b"), "two");
        assert_eq!(row.text("c").expect("c"), "two");
        for (sql, values) in [
            ("SELECT $1, $2", bind![1].as_slice()),
            ("SELECT $1", bind![1, 2]),
            ("SELECT $2", bind![1]),
            ("SELECT ?", bind![1]),
        ] {
            assert!(fetch(&connection, sql, values).is_err(), "{sql}");
            assert!(execute(&connection, sql, values).is_err(), "{sql}");
        }
    }

    #[test]
    fn a_statement_hands_out_a_limited_number_of_rows() {
        let connection = open_memory().expect("memory");
        let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
                   SELECT i FROM n";
        let most = MAX_ROWS as i64;
        assert_eq!(fetch(&connection, sql, bind![most]).expect("so many").len(), MAX_ROWS);
        assert!(fetch(&connection, sql, bind![most + 1]).is_err());
    }

    #[test]
    fn what_is_never_written_is_never_read() {
        let connection = open_memory().expect("memory");
        for sql in ["SELECT 1.5 AS a", "SELECT CAST(x'ff' AS TEXT) AS a"] {
            assert!(fetch(&connection, sql, bind![]).is_err(), "{sql}");
        }
    }
}
