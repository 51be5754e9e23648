//! Plugins, and their uses by sources and channels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::notes::{Notes, named};
use super::{Plugin, Use};
use crate::config::cursor::{Cursor, Field};
use crate::config::text::suggestion;
use crate::plugin::{BUILTINS, Limits, builtin};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

pub(super) fn plugins(root: &mut Cursor<'_>, notes: &mut Notes<'_>) -> BTreeMap<Arc<str>, Plugin> {
    let plugin = |field: Field<'_>| {
        notes.place(field.path(), field.place());
        Some((field.key.into(), field.table(|table| plugin(table, notes))?))
    };
    named(root, "plugins")
        .into_iter()
        .filter_map(plugin)
        .collect()
}

/// Reads a plugin. If its path is wrong, the result has an empty path, so that there are no further
/// complaints about the places that use the plugin.
fn plugin(table: &mut Cursor<'_>, notes: &mut Notes<'_>) -> Plugin {
    let builtin_field = table.take("builtin");
    let names = BUILTINS.map(|name| (name, name));
    let builtin_name = builtin_field
        .as_ref()
        .and_then(|field| field.one_of(&names));
    let path_field = match &builtin_field {
        Some(_) => table.take("path"),
        None => table.require(
            "path",
            "write the path of its component: path = \"plugins/erp.wasm\"",
        ),
    };
    if let (Some(field), Some(_)) = (&path_field, &builtin_field) {
        let help = "remove `path`: a builtin plugin comes with Weir".to_owned();
        field.complain_of_key("a plugin is `builtin` or has a `path`", help);
    }
    let path = match builtin_name {
        Some(name) => Some(builtin(name)),
        None => path_field.as_ref().and_then(|field| field.file_path()),
    };
    let sha256_field = table.take("sha256");
    let sha256 = sha256_field.as_ref().and_then(|field| {
        let right = |text: &str| {
            (text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
                .then(|| text.to_lowercase())
        };
        field.parsed(
            "a SHA-256",
            "write its 64 hexadecimal digits, as `sha256sum` prints them",
            right,
        )
    });
    let settings = table
        .take("settings")
        .and_then(|field| field.object())
        .unwrap_or_default();
    let limits = table
        .take("limits")
        .and_then(|field| field.table(limits))
        .unwrap_or(LIMITS);
    let strict = table
        .take("strict")
        .and_then(|field| field.boolean())
        .unwrap_or_default();
    // The loader reads the file and checks the pinned digest on the bytes that it uses. A file that
    // cannot be read is no mistake of the configuration: the plugin may have an earlier version.
    for field in path_field.iter().chain(&builtin_field) {
        notes.place(field.path(), field.place());
    }
    if let Some(field) = &sha256_field {
        notes.place(field.path(), field.place());
    }
    Plugin {
        path: path.unwrap_or_default(),
        builtin: builtin_name,
        sha256,
        settings,
        limits: Limits { strict, ..limits },
    }
}

/// The default limits. They keep a single batch of a faulty plugin from exhausting the machine.
const LIMITS: Limits = Limits {
    time: Duration::from_secs(1),
    memory_bytes: 64 * MIB as usize,
    output_bytes: 16 * MIB as usize,
    log_bytes: 64 * KIB as usize,
    strict: false,
};

fn limits(table: &mut Cursor<'_>) -> Limits {
    let time = table
        .take("time")
        .and_then(|field| field.duration(Duration::from_millis(1)..=Duration::from_secs(60)));
    let mut size = |key: &str, least: u64, most: u64, default: usize| {
        let bytes = table.take(key).and_then(|field| field.size(least..=most));
        bytes
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(default)
    };
    Limits {
        time: time.unwrap_or(LIMITS.time),
        memory_bytes: size("memory", 64 * KIB, 4096 * MIB, LIMITS.memory_bytes),
        output_bytes: size("output", KIB, 1024 * MIB, LIMITS.output_bytes),
        log_bytes: size("log", 0, 64 * MIB, LIMITS.log_bytes),
        strict: LIMITS.strict,
    }
}

/// Reads the plugins that a source or channel uses, in order. `layers` and then the settings of the
/// use are merged over a plugin's settings.
pub(super) fn uses(
    table: &mut Cursor<'_>,
    notes: &mut Notes<'_>,
    plugins: &BTreeMap<Arc<str>, Plugin>,
    layers: &[&Map<String, Value>],
) -> Vec<Use> {
    let Some(field) = table.take("plugins") else {
        return Vec::new();
    };
    let named = field.list(|item| {
        let own = if item.is_table() {
            item.table(|table| {
                let name = table
                    .require("use", "write { use = \"NAME\", settings = { … } }")
                    .and_then(|field| Some((field.string()?, field)));
                let settings = table
                    .take("settings")
                    .and_then(|field| field.object())
                    .unwrap_or_default();
                name.map(|(name, field)| (name, field, settings))
            })?
        } else {
            None
        };
        let (name, at, own) = match own {
            Some((name, at, settings)) => (name, at, settings),
            None if item.is_table() => return None,
            None => (item.string()?, item.clone(), Map::new()),
        };
        Some((name, at, own, item))
    });
    let mut uses = Vec::with_capacity(named.len());
    for (name, at, own, item) in named {
        let Some((plugin, Plugin { settings, .. })) = plugins.get_key_value(name.as_str()) else {
            at.complain_of_missing(
                format!("there is no plugin {name:?}"),
                suggestion(&name, plugins.keys().map(|name| &**name)),
            );
            continue;
        };
        let mut settings = settings.clone();
        layers
            .iter()
            .copied()
            .chain([&own])
            .for_each(|layer| merge(&mut settings, layer));
        notes.place(item.path(), item.place());
        uses.push(Use {
            plugin: plugin.clone(),
            settings,
            place: item.path().to_owned(),
        });
    }
    uses
}

/// Merges settings as files are merged: objects recursively, everything else as a whole.
fn merge(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Object(base)), Value::Object(over)) => merge(base, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}
