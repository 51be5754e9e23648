//! The basic sections of a file: tokens, store, lanes, entities and rows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::notes::{Notes, named, right_name};
use super::{Role, Token};
use crate::config::cursor::{Cursor, Field, Found, relative};
use crate::config::row::{Row, WAS};
use crate::config::text::suggestion;
use crate::model::{EntityType, FacetRule, Lane, NAME_BYTES_MAX};
use crate::store;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// Maximum size of a facet value. Each change rewrites the entity's whole record, so larger values
/// would make a change too expensive.
const FACET_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Minimum token length without a warning; shorter tokens can be guessed.
const TOKEN_BYTES_ADVISED: usize = 16;

pub(super) fn tokens(root: &mut Cursor<'_>) -> Vec<Token> {
    let token = |field: Field<'_>| field.table(|table| token(&field, table)).flatten();
    named(root, "tokens")
        .into_iter()
        .filter_map(token)
        .collect()
}

fn token(field: &Field<'_>, table: &mut Cursor<'_>) -> Option<Token> {
    let (sha256, role) = (token_hash(table), token_role(table));
    Some(Token {
        name: field.key.to_owned(),
        sha256: sha256?,
        role: role?,
    })
}

fn token_hash(table: &mut Cursor<'_>) -> Option<[u8; 32]> {
    match (table.take("secret"), table.take("hash")) {
        (Some(secret), None) => match secret.secret()? {
            Found::Secret(bytes) => {
                if bytes.len() < TOKEN_BYTES_ADVISED {
                    secret.warn(
                        "the token is short enough to be guessed",
                        "generate one, for example with `openssl rand -hex 24`".to_owned(),
                    );
                }
                Some(Sha256::digest(&bytes).into())
            }
            Found::LeftOut => Some([0; 32]),
        },
        (None, Some(hash)) => {
            let text = hash.string()?;
            let digest = text
                .strip_prefix("sha256:")
                .and_then(|digits| hex::decode(digits).ok()?.try_into().ok());
            if digest.is_none() {
                // It may be the token itself, so the message does not repeat it.
                hash.complain_of_secret(
                    "this is not a hash",
                    "write \"sha256:\" and 64 hexadecimal digits".to_owned(),
                );
            }
            digest
        }
        (Some(_), Some(hash)) => {
            hash.complain(
                "secret is set as well",
                "a token has either secret or hash".to_owned(),
            );
            None
        }
        (None, None) => {
            table.complain(
                "the token has neither secret nor hash",
                "write secret = { env = \"NAME\" } or hash = \"sha256:…\"".to_owned(),
            );
            None
        }
    }
}

fn token_role(table: &mut Cursor<'_>) -> Option<Role> {
    let words = Role::ALL.map(|role| (role.name(), role));
    let roles = table.require(
        "roles",
        "write roles = [\"read\"], or operate, plugins, admin: each includes the ones before it",
    );
    let roles = roles?;
    if roles.is_empty_list() {
        roles.complain(
            "the token has no roles, so it permits nothing",
            "write roles = [\"read\"], or operate, plugins, admin".to_owned(),
        );
    }
    roles.list(|role| role.one_of(&words)).into_iter().max()
}

/// The largest `sequence_min`: from there on sequences suffice for 25 years of 100,000 changes a
/// second, before they exceed the 48 bits of a pair.
const SEQUENCE_MIN_MAX: i64 = 200_000_000_000_000;

/// The directory of the store, `forget` and `sequence_min`.
pub(super) fn store(root: &mut Cursor<'_>) -> (PathBuf, Duration, u64) {
    let (mut path, mut forget) = (relative(root.place(), "data"), 30 * DAY);
    let mut sequence_min = 0;
    if let Some(section) = root.take("store") {
        section.table(|table| {
            if let Some((field, kind)) = table
                .take("kind")
                .and_then(|field| field.string().map(|kind| (field, kind)))
                && kind != store::KIND
            {
                field.complain(
                    format!("there is no store kind {kind:?}"),
                    format!("leave kind out, or write {:?}", store::KIND),
                );
            }
            path = table
                .take("path")
                .and_then(|field| field.file_path())
                .unwrap_or(path.clone());
            forget = table
                .take("forget")
                .and_then(|field| field.duration(MINUTE..=3650 * DAY))
                .unwrap_or(forget);
            sequence_min = table
                .take("sequence_min")
                .and_then(|field| field.integer(0..=SEQUENCE_MIN_MAX))
                .map_or(0, i64::unsigned_abs);
        });
    }
    (path, forget, sequence_min)
}

pub(super) fn lanes(root: &mut Cursor<'_>) -> [u32; 3] {
    let mut shares = [16, 4, 1];
    if let Some(section) = root.take("lanes") {
        section.table(|table| {
            for lane in Lane::ALL {
                let share = table
                    .take(lane.name())
                    .and_then(|field| field.integer(1..=1000));
                shares[lane.index()] = share
                    .and_then(|share| u32::try_from(share).ok())
                    .unwrap_or(shares[lane.index()]);
            }
        });
    }
    shares
}

pub(super) fn entities(
    root: &mut Cursor<'_>,
    notes: &mut Notes<'_>,
) -> BTreeMap<Arc<str>, EntityType> {
    let entity = |field: Field<'_>| {
        let name: Arc<str> = field.key.into();
        field.table(|table| (name.clone(), entity(name, table, notes)))
    };
    named(root, "entities")
        .into_iter()
        .filter_map(entity)
        .collect()
}

fn entity(name: Arc<str>, table: &mut Cursor<'_>, notes: &mut Notes<'_>) -> EntityType {
    if let Some(kind) = table.take("kind") {
        match kind.string().as_deref() {
            None | Some("state") => {}
            Some("log") => kind.complain(
                "log entities are not supported yet",
                "leave kind out, or write \"state\"".to_owned(),
            ),
            Some(other) => {
                let help = suggestion(other, ["state", "log"]);
                kind.complain(format!("there is no entity kind {other:?}"), help);
            }
        }
    }
    let help = "write who owns what, such as facets.content = { owner = \"pim\" }";
    let fields = table.require("facets", help).and_then(|facets| {
        let fields = facets.table(|table| table.all());
        if fields.as_ref().is_some_and(Vec::is_empty) {
            facets.complain(
                "the type has no facets, so nothing can be written",
                help.to_owned(),
            );
        }
        fields
    });
    let facets = fields.unwrap_or_default().into_iter().filter_map(|field| {
        notes.place(field.path(), field.place());
        field.table(|table| facet(&field, table)).flatten()
    });
    let facets = facets.collect();
    let facet_max = table
        .take("facet_max")
        .and_then(|field| field.size(1..=FACET_BYTES_MAX));
    let entities_max = table
        .take("entities_max")
        .and_then(|field| field.integer(1..=i64::from(u32::MAX)));
    EntityType {
        name,
        facets,
        facet_bytes_max: facet_max.unwrap_or(256 * 1024),
        entities_max: entities_max
            .and_then(|max| u64::try_from(max).ok())
            .unwrap_or(5_000_000),
    }
}

fn facet(field: &Field<'_>, table: &mut Cursor<'_>) -> Option<FacetRule> {
    if let Some(why) = wrong_pattern(field.key) {
        field.complain_of_key(
            why,
            "write a name, or a family such as \"price.*\"".to_owned(),
        );
    }
    // TOML reads `facets.price.de = …` as a table in a table; the user means `facets."price.de"`.
    let owner = table.take("owner");
    let Some(owner) = owner else {
        let inner = table.all();
        match inner.iter().find(|inner| inner.is_table()) {
            Some(inner) => {
                let quoted = format!("quote the name: facets.\"{}.{}\"", field.key, inner.key);
                field.complain("a name with a dot in it needs quotes", quoted);
            }
            None => field.complain(
                "owner is missing",
                "name the system that writes it: { owner = \"pim\" }".to_owned(),
            ),
        }
        return None;
    };
    let owner_name = owner.string();
    let lanes = Lane::ALL.map(|lane| (lane.name(), lane));
    let lane = table
        .take("lane")
        .and_then(|field| field.one_of(&lanes))
        .unwrap_or_default();
    Some(FacetRule {
        pattern: field.key.into(),
        owner: owner_name?.into(),
        lane,
    })
}

/// The reason why a text cannot be a facet pattern.
pub(super) fn wrong_pattern(pattern: &str) -> Option<String> {
    let star = pattern.find('*').is_some_and(|at| at + 1 < pattern.len());
    let odd = pattern
        .chars()
        .any(|character| character.is_whitespace() || character.is_control());
    if pattern.is_empty() || odd {
        Some(format!("{pattern:?} cannot be the name of a facet"))
    } else if star {
        Some(format!("{pattern:?} has a * that is not at its end"))
    } else if pattern.len() > NAME_BYTES_MAX {
        Some(format!(
            "the name of a facet has at most {NAME_BYTES_MAX} bytes"
        ))
    } else {
        None
    }
}

/// Reads the rows of each table, in the order of the file.
pub(super) fn rows(root: &mut Cursor<'_>) -> BTreeMap<String, Vec<Row>> {
    let table = |field: Field<'_>| {
        let fields = field.table(|table| table.all())?;
        if fields.is_empty() {
            field.warn(
                "the table has no rows",
                format!("write a row: [each.{}.NAME]", field.key),
            );
        }
        fields.iter().for_each(right_name);
        let row = |row: Field<'_>| {
            let columns = row.object()?;
            let was = |table: &mut Cursor<'_>| {
                table.all();
                table.take(WAS).and_then(|was| was.string())
            };
            Some(Row {
                table: field.key.to_owned(),
                name: row.key.to_owned(),
                columns,
                was: row.table(was).flatten(),
            })
        };
        Some((
            field.key.to_owned(),
            fields.into_iter().filter_map(row).collect(),
        ))
    };
    named(root, "each").into_iter().filter_map(table).collect()
}
