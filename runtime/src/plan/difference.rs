//! What must be done to make one plan true after another. A pure function; `app` does it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Plan, Use};

/// What differs between two plans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Sources. One is changed too when a plugin that it uses is.
    pub sources: Names,
    /// Channels, but for those in `renamed`. One is changed too when its entity type, its target or
    /// a plugin that it uses is.
    pub channels: Names,
    /// Channels that are new here and had another name before, whether the old plan has that name
    /// or not (a store may remember it). The old name is not in `channels.removed`, the new one not
    /// in `channels.added`.
    pub renamed: Vec<Renamed>,
    /// Targets.
    pub targets: Names,
    /// Plugins: another path, pin, settings or limits. Whether the bytes at a path are others, only
    /// loading tells.
    pub plugins: Names,
    /// Entity types.
    pub entities: Names,
    /// Whether tokens differ.
    pub tokens: bool,
    /// Whether the shares of the lanes differ.
    pub shares: bool,
    /// Whether `forget` differs.
    pub forget: bool,
    /// What differs and takes effect only at the next start, a sentence each.
    pub needs_restart: Vec<String>,
}

impl Difference {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Difference::default()
    }
}

/// Names that came, went, or stand for something else now; each ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Only in the new plan.
    pub added: Vec<Arc<str>>,
    /// In both, and different.
    pub changed: Vec<Arc<str>>,
    /// Only in the old plan.
    pub removed: Vec<Arc<str>>,
}

/// A channel that goes on under another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// Its name before.
    pub from: Arc<str>,
    /// Its name now.
    pub to: Arc<str>,
}

/// What differs between the plan in force and the next one.
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
        needs_restart: needs_restart(old, new),
    }
}

fn needs_restart(old: &Plan, new: &Plan) -> Vec<String> {
    let mut sentences = Vec::new();
    let admin = |plan: &Plan| {
        plan.server
            .admin_listen
            .map_or("the same listener".to_owned(), |address| {
                address.to_string()
            })
    };
    let reload = |plan: &Plan| if plan.server.watch { "watch" } else { "signal" };
    let mut say = |what: &str, was: String, is: String| {
        if was != is {
            sentences.push(format!(
                "{what} is {is} from the next start on; until then it stays {was}"
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
