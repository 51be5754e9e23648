//! Looks at the table before the first write, after trouble, and for `weir check --connect`: whether it
//! will take what comes. What is missing is said with the statement that helps.

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use xxhash_rust::xxh3::xxh3_64;

use super::connect::Conn;
use super::error::{Class, Failed};
use super::shape::SHAPE;
use super::table::{self, Column, Form, Layout, quoted};
use super::{CONTENT, Delete, Options};

/// What a look has found.
pub(super) struct Looked {
    /// How to write; `None` if that cannot work.
    pub(super) layout: Option<Layout>,
    /// Why nothing can be written, each with its remedy.
    pub(super) troubles: Vec<String>,
    /// What works now and may fail or surprise later.
    pub(super) warnings: Vec<String>,
    /// What the table takes, as one number; `None` without a table.
    pub(super) shape: Option<u64>,
}

const RELATION: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
       row_security_active(c.oid), has_table_privilege(c.oid, 'DELETE'), current_user::text,
       current_setting('synchronous_commit') = 'off', current_setting('fsync') = 'off',
       array(SELECT a.attname::text FROM pg_partitioned_table AS p, pg_attribute AS a
             WHERE p.partrelid = c.oid AND a.attrelid = c.oid AND a.attnum = ANY (p.partattrs::int2[]))
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass($1)";

/// The columns, with the base type under all domains.
const COLUMNS: &str = "
SELECT a.attname::text, a.attnotnull OR d.required, a.atthasdef OR a.attidentity <> '', a.attgenerated <> '',
       a.attidentity = 'a', quote_ident(bn.nspname) || '.' || quote_ident(b.typname), b.oid, b.typcategory = 'A',
       CASE WHEN d.modifier >= 0 AND b.oid NOT IN (1042, 1043, 1014, 1015) THEN format_type(b.oid, d.modifier) END,
       has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
       has_column_privilege(a.attrelid, a.attnum, 'INSERT'),
       has_column_privilege(a.attrelid, a.attnum, 'UPDATE')
FROM pg_attribute AS a
CROSS JOIN LATERAL (
  WITH RECURSIVE chain AS (
    SELECT t.oid, t.typtype, t.typbasetype, t.typtypmod, a.atttypmod AS modifier,
           t.typnotnull AND t.typdefault IS NULL AS required
    FROM pg_type AS t WHERE t.oid = a.atttypid
    UNION ALL
    SELECT t.oid, t.typtype, t.typbasetype, t.typtypmod, chain.typtypmod, chain.required
    FROM chain JOIN pg_type AS t ON t.oid = chain.typbasetype WHERE chain.typtype = 'd'
  )
  SELECT oid, modifier, required FROM chain WHERE typtype <> 'd' LIMIT 1
) AS d
JOIN pg_type AS b ON b.oid = d.oid JOIN pg_namespace AS bn ON bn.oid = b.typnamespace
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum";

/// The unique indexes: their columns, and why each cannot decide which row a key has.
const INDEXES: &str = "
SELECT ic.relname::text, i.indpred IS NOT NULL, NOT i.indimmediate, NOT i.indisvalid, i.indexprs IS NOT NULL,
       array(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
             JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
             WHERE k.n <= i.indnkeyatts)
FROM pg_index AS i JOIN pg_class AS ic ON ic.oid = i.indexrelid
WHERE i.indrelid = $1 AND i.indisunique";

struct Found {
    name: String,
    required: bool,
    defaulted: bool,
    generated: bool,
    always_identity: bool,
    base: String,
    oid: u32,
    array: bool,
    rounded: Option<String>,
    select: bool,
    insert: bool,
    update: bool,
}

impl Found {
    fn read(row: &Row) -> Found {
        Found {
            name: row.get(0),
            required: row.get(1),
            defaulted: row.get(2),
            generated: row.get(3),
            always_identity: row.get(4),
            base: row.get(5),
            oid: row.get(6),
            array: row.get(7),
            rounded: row.get(8),
            select: row.get(9),
            insert: row.get(10),
            update: row.get(11),
        }
    }

    fn column(&self) -> Column {
        let form = match &Type::from_oid(self.oid) {
            Some(it) if [Type::JSON, Type::JSONB].contains(it) => Form::Json,
            Some(it) if [Type::TIMESTAMPTZ, Type::TIMETZ].contains(it) => Form::Zoned,
            Some(it) if *it == Type::BYTEA => Form::Bytes,
            Some(it) if [Type::TIMESTAMPTZ_ARRAY, Type::TIMETZ_ARRAY].contains(it) => {
                Form::ArrayOfZoned
            }
            Some(it) if *it == Type::BYTEA_ARRAY => Form::ArrayOfBytes,
            _ if self.array => Form::Array,
            _ => Form::Plain,
        };
        Column {
            name: self.name.clone(),
            base: self.base.clone(),
            rounded: self.rounded.clone(),
            form,
        }
    }

    fn is(&self, types: &[Type]) -> bool {
        Type::from_oid(self.oid).is_some_and(|found| types.contains(&found))
    }
}

/// Looks at the table.
///
/// # Errors
/// The catalog cannot be read.
pub(super) async fn look(conn: &Conn, options: &Options) -> Result<Looked, Failed> {
    let failed = |error: tokio_postgres::Error| {
        let failed = super::error::failed(&error, options, &[]);
        match failed.class {
            // Nothing was written, whatever became of the look.
            Class::Unknown => Failed::new(Class::Later, failed.reason),
            Class::Row | Class::RowLater => Failed::new(Class::Table, failed.reason),
            _ => failed,
        }
    };
    let name = options.table.quoted();
    let relations = conn
        .client
        .query_typed(RELATION, &[(&name, Type::TEXT)])
        .await
        .map_err(failed)?;
    let Some(relation) = relations.first() else {
        return Ok(Looked {
            layout: None,
            troubles: vec![format!(
                "there is no table {name} that the role {} can see; create it, for example with: {}",
                options.server.user,
                table::create(options)
            )],
            warnings: Vec::new(),
            shape: None,
        });
    };
    let oid: u32 = relation.get(0);
    let with_oid: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 1] = [(&oid, Type::OID)];
    let (columns, indexes, shape) = tokio::join!(
        biased;
        conn.client.query_typed(COLUMNS, &with_oid),
        conn.client.query_typed(INDEXES, &with_oid),
        conn.client.query_typed(SHAPE, &with_oid),
    );
    let columns: Vec<Found> = columns.map_err(failed)?.iter().map(Found::read).collect();
    let looked = judge(options, relation, &columns, &indexes.map_err(failed)?);
    let text: String = shape
        .map_err(failed)?
        .iter()
        .map(|row| row.get::<_, String>(0))
        .collect();
    Ok(Looked {
        shape: Some(xxh3_64(text.as_bytes())),
        ..looked
    })
}

fn judge(options: &Options, relation: &Row, columns: &[Found], indexes: &[Row]) -> Looked {
    let (schema, table): (String, String) = (relation.get(1), relation.get(2));
    let table = format!("{}.{}", quoted(&schema), quoted(&table));
    let mut judge = Judge {
        options,
        table,
        role: relation.get(7),
        columns,
        troubles: Vec::new(),
        warnings: Vec::new(),
    };
    judge.relation(relation);
    let layout = judge.layout();
    judge.unwritten();
    judge.indexes(&relation.get::<_, Vec<String>>(10), indexes);
    judge.rights(relation.get(6));
    judge.promises(relation);
    // More words come after a statement at the end.
    for said in judge.troubles.iter_mut().chain(&mut judge.warnings) {
        said.truncate(said.trim_end_matches(';').len());
    }
    Looked {
        layout: layout.filter(|_| judge.troubles.is_empty()),
        troubles: judge.troubles,
        warnings: judge.warnings,
        shape: None,
    }
}

struct Judge<'a> {
    options: &'a Options,
    table: String,
    role: String,
    columns: &'a [Found],
    troubles: Vec<String>,
    warnings: Vec<String>,
}

impl Judge<'_> {
    fn relation(&mut self, relation: &Row) {
        let (kind, table) = (relation.get::<_, String>(3), &self.table);
        let what = match kind.as_str() {
            "r" | "p" => return,
            "v" => "a view",
            "m" => "a materialized view",
            "f" => "a foreign table",
            _ => "no table",
        };
        self.troubles.push(format!(
            "{table} is {what}; name a table, which may be partitioned"
        ));
    }

    fn found(&self, name: &str) -> Option<&Found> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The names of the columns that Weir writes.
    fn ours(&self) -> Vec<&str> {
        let options = self.options;
        let mut ours = vec![options.key.as_str(), options.sequence.as_str()];
        match options.columns.is_empty() {
            true => ours.push(CONTENT),
            false => ours.extend(options.columns.iter().map(|column| column.name.as_str())),
        }
        if let Delete::Flag(flag) = &options.delete {
            ours.push(flag);
        }
        ours
    }

    fn layout(&mut self) -> Option<Layout> {
        let options = self.options;
        for name in self
            .ours()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
        {
            self.column(&name);
        }
        let column = |name: &str| self.found(name).map(Found::column);
        let values: Vec<&str> = match options.columns.is_empty() {
            true => vec![CONTENT],
            false => options.columns.iter().map(|it| it.name.as_str()).collect(),
        };
        Some(Layout {
            table: self.table.clone(),
            key: column(&options.key)?,
            sequence: column(&options.sequence)?.name,
            flag: match &options.delete {
                Delete::Row => None,
                Delete::Flag(flag) => Some(column(flag)?.name),
            },
            columns: values.into_iter().map(column).collect::<Option<_>>()?,
        })
    }

    /// Judges a column that Weir writes.
    fn column(&mut self, name: &str) {
        let (options, table) = (self.options, self.table.clone());
        let is_flag = matches!(&options.delete, Delete::Flag(flag) if flag == name);
        let is_sequence = options.sequence == name;
        let Some(found) = self.found(name) else {
            let definition = if is_flag {
                "boolean NOT NULL DEFAULT false"
            } else if is_sequence {
                "bigint NOT NULL DEFAULT 0"
            } else if name == CONTENT && options.columns.is_empty() {
                "jsonb"
            } else {
                "text"
            };
            let why = match is_sequence {
                true => ", without which an older state could replace a newer one",
                false => "",
            };
            self.troubles.push(format!(
                "{table} has no column {name:?}{why}; add it: ALTER TABLE {table} ADD COLUMN {} {definition};",
                quoted(name)
            ));
            return;
        };
        let (generated, identity) = (found.generated, found.always_identity);
        let numbers = [Type::INT8, Type::NUMERIC];
        let wrong_number = is_sequence && !found.is(&numbers);
        let wrong_flag = is_flag && !found.is(&[Type::BOOL]);
        let zoneless = found.is(&[Type::TIMESTAMP]);
        let base = found.base.clone();
        if generated || identity {
            self.troubles.push(format!(
                "the column {name:?} of {table} is computed by the database and cannot be written; leave it out of columns"
            ));
        }
        if wrong_number {
            self.troubles.push(format!(
                "the column {name:?} of {table} has the type {base}, and sequences need more: ALTER TABLE {table} ALTER COLUMN {} TYPE bigint;",
                quoted(name)
            ));
        }
        if wrong_flag {
            self.troubles.push(format!(
                "the column {name:?} of {table} has the type {base}, and a flag needs boolean; name another column in delete"
            ));
        }
        if zoneless {
            self.warnings.push(format!(
                "the column {name:?} of {table} is a timestamp without time zone, which drops the offset of a time without a word; change it: ALTER TABLE {table} ALTER COLUMN {} TYPE timestamptz;",
                quoted(name)
            ));
        }
    }

    /// Columns that every new row would lack.
    fn unwritten(&mut self) {
        let ours = self.ours();
        let lacking = self.columns.iter().filter(|column| {
            column.required
                && !column.defaulted
                && !column.generated
                && !ours.contains(&column.name.as_str())
        });
        let troubles: Vec<String> = lacking
            .map(|column| {
                format!(
                    "the column {:?} of {} may not be NULL and has no default, and Weir does not write it; add it to columns, or ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL;",
                    column.name,
                    self.table,
                    self.table,
                    quoted(&column.name)
                )
            })
            .collect();
        self.troubles.extend(troubles);
    }

    fn indexes(&mut self, partitioned_by: &[String], indexes: &[Row]) {
        let (key, table) = (&self.options.key, &self.table);
        if self.found(key).is_none() {
            return;
        }
        let mut near = Vec::new();
        for index in indexes {
            let name: String = index.get(0);
            let columns: Vec<String> = index.get(5);
            let wrong = [
                (index.get(1), "is partial"),
                (index.get(2), "is deferrable"),
                (index.get(3), "is not valid"),
                (index.get(4), "is of an expression"),
            ];
            let wrong = wrong.iter().find(|(is, _)| *is);
            match wrong {
                None if columns == [key.clone()] => return,
                Some((_, why)) if columns == [key.clone()] => {
                    near.push(format!("the unique index {name:?} {why}"));
                }
                _ => {}
            }
        }
        let other: Vec<&String> = partitioned_by.iter().filter(|by| *by != key).collect();
        if !other.is_empty() {
            self.troubles.push(format!(
                "{table} is partitioned by {other:?}, so that the key {key:?} alone cannot be unique in it; partition it by {key:?}, or deliver to a table that is not partitioned"
            ));
            return;
        }
        let near = match near.is_empty() {
            true => String::new(),
            false => format!(" ({}, so it cannot be used)", near.join("; ")),
        };
        self.troubles.push(format!(
            "the key {key:?} of {table} has no unique index{near}; create one: CREATE UNIQUE INDEX ON {table} ({});",
            quoted(key)
        ));
    }

    fn rights(&mut self, delete: bool) {
        let lacks = |has: fn(&Found) -> bool| {
            let found = self.ours().into_iter().filter_map(|name| self.found(name));
            found.into_iter().any(|column| !has(column))
        };
        let deletes = self.options.delete == Delete::Row;
        let missing = [
            ("SELECT", lacks(|column| column.select)),
            ("INSERT", lacks(|column| column.insert)),
            ("UPDATE", lacks(|column| column.update)),
            ("DELETE", deletes && !delete),
        ];
        let missing: Vec<&str> = missing
            .iter()
            .filter(|(_, is)| *is)
            .map(|(it, _)| *it)
            .collect();
        if !missing.is_empty() {
            let (missing, role) = (missing.join(", "), &self.role);
            self.troubles.push(format!(
                "the role {role:?} may not do all that is needed with {}; grant it: GRANT {missing} ON {} TO {};",
                self.table,
                self.table,
                quoted(role)
            ));
        }
    }

    /// What the table and the server promise about what they have acknowledged.
    fn promises(&mut self, relation: &Row) {
        let table = &self.table;
        if relation.get(5) {
            self.warnings.push(format!(
                "row security applies to the role {:?} on {table}: a row that its policies hide is taken for missing, and one that they forbid trips the target; let the role pass: ALTER ROLE {} BYPASSRLS;",
                self.role,
                quoted(&self.role)
            ));
        }
        if relation.get::<_, String>(4) == "u" {
            self.warnings.push(format!(
                "{table} is unlogged: it is empty after a crash of the server, and Weir does not notice; ALTER TABLE {table} SET LOGGED;"
            ));
        }
        if relation.get(8) || relation.get(9) {
            self.warnings.push(
                "the server acknowledges what it has not written (synchronous_commit or fsync is off): a crash loses deliveries, and Weir may not notice; turn both on for this role"
                    .to_owned(),
            );
        }
        if self.options.delete == Delete::Row {
            self.warnings.push(format!(
                "delete = \"row\": when a row is gone, so is its sequence, and a statement without an answer may bring an old state back; delete = {{ flag = \"deleted\" }} keeps both, with: ALTER TABLE {table} ADD COLUMN deleted boolean NOT NULL DEFAULT false;"
            ));
        }
    }
}
