//! The difference between two plans, as a pure function. `app` applies it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Plan, Use};

/// The difference between two plans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Sources. A source also counts as changed if a plugin that it uses has changed.
    pub sources: Names,
    /// Channels, except those in `renamed`. A channel also counts as changed if its entity type,
    /// its target or a plugin that it uses has changed.
    pub channels: Names,
    /// Channels that are new and had another name before, whether or not the old plan has that name
    /// (the store may still know it). The old name is not in `channels.removed`, and the new one is
    /// not in `channels.added`.
    pub renamed: Vec<Renamed>,
    /// Targets.
    pub targets: Names,
    /// Plugins whose path, pinned digest, settings or limits differ. Whether the bytes at a path
    /// differ is known only after loading.
    pub plugins: Names,
    /// Entity types.
    pub entities: Names,
    /// Whether tokens differ.
    pub tokens: bool,
    /// Whether the lanes' shares differ.
    pub shares: bool,
    /// Whether `forget` differs.
    pub forget: bool,
    /// Whether the memory for bodies differs.
    pub bodies: bool,
    /// Whether the certificate, the trusted proxies or the public URL differ.
    pub front: bool,
    /// Whether the receivers of notices differ.
    pub notify: bool,
    /// Whether the export of spans differs.
    pub telemetry: bool,
    /// Differences that take effect only at the next start, one sentence each.
    pub needs_restart: Vec<String>,
}

impl Difference {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Difference::default()
    }
}

/// Names that were added, changed or removed, each list in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Only in the new plan.
    pub added: Vec<Arc<str>>,
    /// In both, and different.
    pub changed: Vec<Arc<str>>,
    /// Only in the old plan.
    pub removed: Vec<Arc<str>>,
}

/// A channel that continues under another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// Its old name.
    pub from: Arc<str>,
    /// Its new name.
    pub to: Arc<str>,
}

/// Returns the difference between the current plan and the next one.
pub fn difference(old: &Plan, new: &Plan) -> Difference {
    let plugins = names(&old.plugins, &new.plugins, |one, other| one != other);
    let targets = names(&old.targets, &new.targets, |one, other| one != other);
    let entities = names(&old.entities, &new.entities, |one, other| one != other);
    let touched: BTreeSet<&str> = plugins.changed.iter().map(|name| &**name).collect();
    let reloaded = |uses: &[Use]| uses.iter().any(|one| touched.contains(&*one.plugin));
    let sources = names(&old.sources, &new.sources, |one, other| {
        one != other || reloaded(&other.plugins)
    });
    let mut channels = names(&old.channels, &new.channels, |one, other| {
        let (target, entity) = (&other.options.target, &other.options.entity_type);
        one != other
            || reloaded(&other.plugins)
            || targets.changed.contains(target)
            || entities.changed.contains(entity)
    });
    let mut renamed = Vec::new();
    channels
        .added
        .retain(|name| match &new.channels[name].options.was {
            Some(was) => {
                renamed.push(Renamed {
                    from: was.as_str().into(),
                    to: name.clone(),
                });
                false
            }
            None => true,
        });
    channels
        .removed
        .retain(|name| renamed.iter().all(|renamed| renamed.from != *name));
    Difference {
        sources,
        channels,
        renamed,
        targets,
        plugins,
        entities,
        tokens: old.tokens != new.tokens,
        shares: old.shares != new.shares,
        forget: old.forget != new.forget,
        bodies: old.server.bodies_bytes != new.server.bodies_bytes,
        front: old.server.front != new.server.front,
        notify: old.notify != new.notify,
        telemetry: old.telemetry != new.telemetry,
        needs_restart: needs_restart(old, new),
    }
}

fn needs_restart(old: &Plan, new: &Plan) -> Vec<String> {
    let mut sentences = Vec::new();
    let admin = |plan: &Plan| {
        plan.server
            .admin_listen
            .map_or("the address of listen".to_owned(), |address| {
                address.to_string()
            })
    };
    let reload = |plan: &Plan| if plan.server.watch { "watch" } else { "signal" };
    let mut say = |what: &str, was: String, is: String| {
        if was != is {
            sentences.push(format!(
                "{what} changes from {was} to {is} at the next start, not before"
            ));
        }
    };
    say(
        "server.listen",
        old.server.listen.to_string(),
        new.server.listen.to_string(),
    );
    say("server.admin_listen", admin(old), admin(new));
    say(
        "server.reload",
        reload(old).to_owned(),
        reload(new).to_owned(),
    );
    say(
        "store.path",
        old.store_path.display().to_string(),
        new.store_path.display().to_string(),
    );
    say(
        "store.sequence_min",
        old.sequence_min.to_string(),
        new.sequence_min.to_string(),
    );
    sentences
}

fn names<T>(
    old: &BTreeMap<Arc<str>, T>,
    new: &BTreeMap<Arc<str>, T>,
    differs: impl Fn(&T, &T) -> bool,
) -> Names {
    let added = new
        .keys()
        .filter(|name| !old.contains_key(*name))
        .cloned()
        .collect();
    let removed = old
        .keys()
        .filter(|name| !new.contains_key(*name))
        .cloned()
        .collect();
    let changed = new
        .iter()
        .filter(|(name, value)| old.get(*name).is_some_and(|old| differs(old, value)));
    Names {
        added,
        changed: changed.map(|(name, _)| name.clone()).collect(),
        removed,
    }
}
