//! The schema, by numbered steps, each in one transaction. A step that has been released is never
//! edited: the next change is a step of its own.

use std::path::Path;

use rusqlite::Connection;

use crate::database::StoreFault;

/// The steps, from an empty file on; the n-th leads to version n.
const STEPS: [&str; 2] = [include_str!("schema/sqlite-1.sql"), include_str!("schema/sqlite-2.sql")];

/// Marks a database file as ours: `PCLS`.
const APPLICATION: i32 = 0x5043_4c53;

/// What a file is, before anything is written to it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Empty, or ours and not newer than we are.
    Ours,
    /// Made by a later version.
    Newer(i64),
    /// A database of something else.
    Else,
}

/// Looks whose file it is; this is also the first read, so a file that is no database fails here.
pub(crate) fn ours(connection: &Connection) -> rusqlite::Result<Found> {
    let application: i32 = pragma(connection, "application_id")?;
    let version: i64 = pragma(connection, "user_version")?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let empty = application == 0 && version == 0 && tables == 0;
    Ok(if !empty && application != APPLICATION {
        Found::Else
    } else if usize::try_from(version).map_or(true, |version| version > STEPS.len()) {
        Found::Newer(version)
    } else {
        Found::Ours
    })
}

impl Found {
    /// Ours, or the fault with the file's name and the remedy.
    pub(crate) fn named(self, path: &Path) -> Result<(), StoreFault> {
        let path = path.display();
        match self {
            Found::Ours => Ok(()),
            Found::Newer(version) => Err(StoreFault::Foreign(format!(
                "`{path}` has schema {version}, this version of portcullis knows up to {}; \
                 install the newer version, or restore a backup made by this one",
                STEPS.len()
            ))),
            Found::Else => Err(StoreFault::Foreign(format!(
                "`{path}` is a database of something else; name another file"
            ))),
        }
    }
}

/// Takes the steps that are missing.
pub(crate) fn migrate(connection: &Connection) -> Result<(), StoreFault> {
    let fault = |error: rusqlite::Error| StoreFault::Database(format!("migration: {error}"));
    let version: u32 = pragma(connection, "user_version").map_err(fault)?;
    for (number, step) in (1..).zip(STEPS).skip(version as usize) {
        // Both pragmas live in the file's header, so they are part of the transaction.
        let whole = format!(
            "BEGIN IMMEDIATE;\n{step}\nPRAGMA application_id = {APPLICATION};\n\
             PRAGMA user_version = {number};\nCOMMIT;"
        );
        connection.execute_batch(&whole).map_err(|error| {
            // Without a transaction there is nothing to roll back, which is as good.
            let _none = connection.execute_batch("ROLLBACK");
            StoreFault::Database(format!("migration {number}: {error}"))
        })?;
    }
    Ok(())
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Connection {
        Connection::open_in_memory().expect("memory")
    }

    #[test]
    fn an_empty_file_becomes_ours_and_stays_so() {
        let connection = memory();
        assert_eq!(ours(&connection).expect("look"), Found::Ours);
        migrate(&connection).expect("first");
        assert_eq!(ours(&connection).expect("look"), Found::Ours);
        migrate(&connection).expect("again changes nothing");
        let rev: i64 =
            connection.query_row("SELECT rev FROM meta", [], |row| row.get(0)).expect("meta");
        assert_eq!(rev, 0);
    }

    #[test]
    fn a_newer_schema_is_refused_by_name_with_its_remedy() {
        let connection = memory();
        migrate(&connection).expect("migrate");
        connection.pragma_update(None, "user_version", 99).expect("set");
        let found = ours(&connection).expect("look");
        assert_eq!(found, Found::Newer(99));
        let fault = found.named(Path::new("a.db")).expect_err("newer");
        assert_eq!(
            fault.to_string(),
            "`a.db` has schema 99, this version of portcullis knows up to 2; install the newer \
             version, or restore a backup made by this one"
        );
        connection.pragma_update(None, "user_version", -1).expect("set");
        assert_eq!(ours(&connection).expect("look"), Found::Newer(-1));
    }

    #[test]
    fn a_database_of_something_else_is_refused() {
        let connection = memory();
        connection.execute_batch("CREATE TABLE theirs (x)").expect("create");
        assert_eq!(ours(&connection).expect("look"), Found::Else);
        let other = memory();
        other.pragma_update(None, "application_id", 7).expect("set");
        assert_eq!(ours(&other).expect("look"), Found::Else);
    }

    #[test]
    fn a_step_that_fails_leaves_nothing() {
        let connection = memory();
        connection.execute_batch("CREATE TABLE used_ids (x)").expect("in the way");
        assert!(migrate(&connection).is_err());
        assert!(connection.is_autocommit());
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'", [], |row| {
                row.get(0)
            })
            .expect("count");
        assert_eq!(tables, 0);
    }

    /// A file as the first version left it, with a row of each thing that the second step touches.
    #[test]
    fn what_was_remembered_by_step_one_is_there_after_step_two() {
        let connection = memory();
        connection.pragma_update(None, "foreign_keys", "ON").expect("as the store opens it");
        let first = format!(
            "{}\nPRAGMA application_id = {APPLICATION};\nPRAGMA user_version = 1;\n{OLD_ROWS}",
            STEPS[0]
        );
        connection.execute_batch(&first).expect("step one");
        assert_eq!(ours(&connection).expect("look"), Found::Ours);
        migrate(&connection).expect("step two");
        assert_eq!(pragma::<i64>(&connection, "user_version").expect("version"), 2);
        let found = "SELECT group_concat(concat_ws(' ', id, user_id, client_id, session_id,
                     dies_with, scopes, coalesce(audience, '-'), 'd' || details,
                     coalesce(binding, '-'), pwd, otp, coalesce(hwk, '-'), counter,
                     coalesce(moved, '-'), graces, seen, expires, made, coalesce(ended, '-')), ';')
                     FROM (SELECT * FROM grants ORDER BY id)";
        let found: String = connection.query_row(found, [], |row| row.get(0)).expect("grants");
        assert_eq!(
            found,
            "g_a u_ada shop s_one s_one openid https://a d - 7 8 - 0 - 0 11 99 11 -;\
             g_b u_ada bank s_one s_one a - d - 7 8 - 0 - 0 12 99 12 13"
        );
        let client = "SELECT id || registration || registered || coalesce(manage, '-')
                      FROM clients";
        let client: String = connection.query_row(client, [], |row| row.get(0)).expect("client");
        assert_eq!(client, "ledger{}1-");
        let rest = "SELECT (SELECT count(*) FROM consents) || (SELECT rev FROM meta)";
        let rest: String = connection.query_row(rest, [], |row| row.get(0)).expect("the rest");
        assert_eq!(rest, "14");
        let broken = "SELECT count(*) FROM pragma_foreign_key_check()";
        let broken: i64 = connection.query_row(broken, [], |row| row.get(0)).expect("check");
        assert_eq!(broken, 0);
        // And they still die with their session.
        connection.execute_batch("DELETE FROM sessions").expect("delete");
        let left = "SELECT count(*) FROM grants";
        let left: i64 = connection.query_row(left, [], |row| row.get(0)).expect("count");
        assert_eq!(left, 0);
    }

    const OLD_ROWS: &str = "
        UPDATE meta SET rev = 4;
        INSERT INTO users VALUES
            ('u_ada', 'ada', 'Ada', NULL, '[]', '[]', NULL, '{}', NULL, 1);
        INSERT INTO sessions VALUES ('s_one', x'00', 'u_ada', 7, 8, NULL, 10, 10, 99, NULL);
        INSERT INTO clients VALUES ('ledger', '{}', NULL, 1);
        INSERT INTO grants VALUES
            ('g_a', 'u_ada', 'shop', 's_one', 'openid', 'https://a', 11, NULL),
            ('g_b', 'u_ada', 'bank', 's_one', 'a', NULL, 12, 13);
        INSERT INTO consents VALUES ('u_ada', 'shop', 'openid', 11);";

    #[test]
    fn a_second_step_that_fails_leaves_the_first_as_it_was() {
        let connection = memory();
        connection
            .execute_batch(&format!("{}\nPRAGMA user_version = 1;\n{OLD_ROWS}", STEPS[0]))
            .expect("step one");
        connection.execute_batch("CREATE TABLE logouts (x)").expect("in the way");
        let fault = migrate(&connection).expect_err("in the way");
        assert!(fault.to_string().contains("migration 2"), "{fault}");
        assert!(connection.is_autocommit());
        assert_eq!(pragma::<i64>(&connection, "user_version").expect("version"), 1);
        let old = "SELECT count(session_id) FROM grants";
        let old: i64 = connection.query_row(old, [], |row| row.get(0)).expect("the old table");
        assert_eq!(old, 2);
        let new = connection.prepare("SELECT dies_with FROM grants");
        assert!(new.is_err(), "nothing of step two");
    }
}
