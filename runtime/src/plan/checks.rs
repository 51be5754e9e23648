//! Checks between the parts of a plan: errors, and warnings for what is probably a mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::listeners::ServerPlaces;
use super::notify::never_told;
use super::targets::{exclusive, maps_fields};
use super::{Channel, Complaint, Plan};
use crate::config::cursor::Reader;
use crate::config::text::suggestion;
use crate::ingest::naming::IdFrom;
use crate::ingest::verify;
use crate::model::patterns_meet;

pub(super) fn check(reader: &Reader<'_>, plan: &Plan, places: &ServerPlaces) {
    guarded(reader, plan, places);
    recorded(reader, plan);
    owners(reader, plan);
    shared(reader, plan);
    feeds(reader, plan);
    // Whether plugins render is known only when they are loaded.
    let plain = |channel: &Channel| channel.plugins.is_empty();
    mapped_fields(plan, plain)
        .into_iter()
        .for_each(|warning| reader.warn(warning));
    unused(reader, plan);
    never_told(reader, plan);
}

/// Warnings about channels without a renderer whose facets become fields of a mapping: of a family, because
/// each new name takes one of the fields that an index may have, and of two facets of which one has to be an
/// object so that the other can be in it.
pub(crate) fn mapped_fields(
    plan: &Plan,
    without_renderer: impl Fn(&Channel) -> bool,
) -> Vec<Complaint> {
    let mut warnings = Vec::new();
    for (name, channel) in &plan.channels {
        let options = &channel.options;
        let mapped = plan.targets.get(&options.target).is_some_and(maps_fields);
        if !mapped || !without_renderer(channel) {
            continue;
        }
        let path = format!("channels.{name}.facets");
        let family = |pattern: &&String| pattern.ends_with('*');
        if let Some(family) = options.facets.iter().find(family) {
            let what = format!(
                "each facet of {family:?} becomes a field of the index, which takes no new document once it has all the fields that it may have (1,000, unless its mapping says otherwise)"
            );
            let help = "write a renderer that puts them into fields that are always the same, such as a list of prices".to_owned();
            warnings.push(plan.complaint(&path, what, help));
        }
        let entity = plan.entities.get(&options.entity_type);
        let rules = entity.iter().flat_map(|entity| &entity.facets);
        let facets: Vec<&str> = rules
            .map(|rule| &*rule.pattern)
            .filter(|rule| {
                options
                    .facets
                    .iter()
                    .any(|pattern| patterns_meet(pattern, rule))
            })
            .collect();
        for facet in &facets {
            let within = |other: &&&str| {
                let rest = other.strip_prefix(facet);
                rest.is_some_and(|rest| rest.starts_with('.'))
            };
            if let Some(other) = facets.iter().find(within) {
                let what = format!(
                    "{facet:?} and {other:?} exclude each other in a mapping, where a dot opens an object: documents with both are refused, unless the value of {facet:?} is always an object"
                );
                let help = "rename one of them, or write a renderer".to_owned();
                warnings.push(plan.complaint(&path, what, help));
            }
        }
    }
    warnings
}

/// Refuses channels that would overwrite each other's entities at their target.
fn shared(reader: &Reader<'_>, plan: &Plan) {
    let mut first: BTreeMap<String, &str> = BTreeMap::new();
    for (name, channel) in &plan.channels {
        let target = plan.targets.get(&channel.options.target);
        let Some((place, help)) = target.and_then(exclusive) else {
            continue;
        };
        // Channels of different types do not meet where the type is part of the name.
        let place = place.replace("{entity}", &channel.options.entity_type);
        if let Some(other) = first.insert(place, name) {
            let what = format!("the channel {other:?} delivers to the same place");
            reader.complain(plan.complaint(&format!("channels.{name}"), what, help.to_owned()));
        }
    }
}

/// A feed is the state of one channel, and whoever may reach a listener from elsewhere must be named.
fn feeds(reader: &Reader<'_>, plan: &Plan) {
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, channel) in &plan.channels {
        let target = &*channel.options.target;
        let is_feed = plan
            .targets
            .get(target)
            .is_some_and(|it| feed(it).is_some());
        if let Some(other) = is_feed.then(|| first.insert(target, name)).flatten() {
            let what = format!("the channel {other:?} delivers to the same feed");
            let help =
                "a feed is the whole state of one channel: give each channel a feed of its own";
            reader.complain(plan.complaint(&format!("channels.{name}"), what, help.to_owned()));
        }
    }
    let listeners = [Some(plan.server.listen), plan.server.admin_listen];
    let mut reachable = listeners.into_iter().flatten();
    let reached = reachable.find_map(|address| plan.server.reached(address));
    let mut paths: BTreeMap<PathBuf, &str> = BTreeMap::new();
    let mut objects: BTreeMap<String, &str> = BTreeMap::new();
    for (name, target) in &plan.targets {
        let Some(options) = feed(target) else {
            continue;
        };
        let place = format!("targets.{name}");
        if let (Some(reached), None) = (&reached, &options.serve) {
            let what = format!("the feed would be served to anyone, and {reached}");
            let help = "write serve = { basic = { user = \"…\", password = { env = \"NAME\" } } }, or serve = \"open\" if anyone may have it";
            reader.complain(plan.complaint(&place, what, help.to_owned()));
        }
        // Beside the file is the packed one.
        let written = options.path.as_deref().map(|path| {
            let mut packed = path.as_os_str().to_owned();
            packed.push(".gz");
            [path.to_owned(), packed.into()]
        });
        let written = written.into_iter().flatten();
        if let Some(other) = written.filter_map(|path| paths.insert(path, name)).last() {
            let what = format!("the feed {other:?} is written to the same path");
            reader.complain(plan.complaint(&place, what, "write another path".to_owned()));
        }
        let put = options.to.as_ref().map(|to| {
            let bucket = to.place.shown();
            to.names().map(|name| format!("{bucket} {name}"))
        });
        let put = put.into_iter().flatten();
        if let Some(other) = put.filter_map(|object| objects.insert(object, name)).last() {
            let what = format!("the feed {other:?} is put to the same object");
            reader.complain(plan.complaint(&place, what, "write another name in to".to_owned()));
        }
    }
}

fn feed(target: &crate::targets::Options) -> Option<&crate::targets::feed::Options> {
    match &target.kind {
        crate::targets::Kind::Feed(options) => Some(options),
        _ => None,
    }
}

/// Requires verification and tokens on listeners that others than this machine can reach.
fn guarded(reader: &Reader<'_>, plan: &Plan, places: &ServerPlaces) {
    if let Some(reached) = plan.server.reached(plan.server.listen) {
        for (name, source) in &plan.sources {
            if source.options.verify == verify::Options::None {
                let what = format!("the source accepts events from anyone, and {reached}");
                let help = "write verify = { kind = \"bearer\", tokens = [{ env = \"NAME\" }] }, or hmac, or standard-webhooks".to_owned();
                let written = format!("sources.{name}.verify");
                let path = if plan.places.contains_key(&written) {
                    written
                } else {
                    format!("sources.{name}")
                };
                reader.complain(plan.complaint(&path, what, help));
            }
        }
    }
    let reached = plan.server.reached(plan.server.admin());
    if let Some(reached) = reached.filter(|_| plan.tokens.is_empty()) {
        let place = places.admin_listen.as_ref().unwrap_or(&places.listen);
        let path = if places.admin_listen.is_some() {
            "server.admin_listen"
        } else {
            "server.listen"
        };
        let what = format!("{reached}, and there is no token for the admin routes");
        let help = match plan.server.admin().ip().is_loopback() {
            true => "write [tokens.NAME] with secret = { env = \"NAME\" } and roles",
            false => {
                "write [tokens.NAME] with secret = { env = \"NAME\" } and roles, or keep the admin routes on loopback"
            }
        };
        reader.complain(Complaint::at(place, path, what, help.to_owned()));
    }
}

/// Warns of sources whose signature does not protect them against a recorded request that is sent
/// again. An id protects only if it is signed: `webhook-id` is, and what is in the body is. A
/// signature by itself is no id: a price that goes from 10 to 12 and back to 10 is signed alike twice.
fn recorded(reader: &Reader<'_>, plan: &Plan) {
    for (name, source) in &plan.sources {
        let verify::Options::Signed(scheme) = &source.options.verify else {
            continue;
        };
        let id_is_signed = match &source.options.naming.id {
            Some(IdFrom::Pointer(_)) => true,
            Some(IdFrom::Header(names)) => names.iter().all(|name| scheme.signs(name)),
            None => false,
        };
        if id_is_signed || scheme.timestamp.is_some() {
            continue;
        }
        let covers = match &scheme.content {
            verify::Content::Template(_) => "the body alone",
            verify::Content::Adyen => "eight values of each notification, and no time",
            verify::Content::Contentful | verify::Content::Twilio => "no time",
        };
        let what = format!(
            "the signature covers {covers}, so whoever has recorded a request can send it again, and an old value returns"
        );
        let help = "send versions with the changes, or events with an id in the body (structured CloudEvents, or id = { pointer = \"/id\" })".to_owned();
        reader.warn(plan.complaint(&format!("sources.{name}.verify"), what, help));
    }
}

/// Warns of facets that no source writes and of sources that own no facet; both are usually
/// mistakes.
fn owners(reader: &Reader<'_>, plan: &Plan) {
    let writers: BTreeSet<&str> = plan
        .sources
        .values()
        .map(|source| &*source.options.owner)
        .collect();
    let owners: BTreeSet<&str> = plan
        .entities
        .values()
        .flat_map(|entity| &entity.facets)
        .map(|rule| &*rule.owner)
        .collect();
    for entity in plan.entities.values() {
        for rule in entity
            .facets
            .iter()
            .filter(|rule| !writers.contains(&*rule.owner))
        {
            let path = crate::config::tree::join(
                &format!("entities.{}.facets", entity.name),
                &rule.pattern,
            );
            let what = format!(
                "no source writes as {:?}, so this facet never gets a value",
                rule.owner
            );
            reader.warn(plan.complaint(
                &path,
                what,
                suggestion(&rule.owner, writers.iter().copied()),
            ));
        }
    }
    for (name, source) in plan
        .sources
        .iter()
        .filter(|(_, source)| !owners.contains(&*source.options.owner))
    {
        let what = format!(
            "no facet is owned by {:?}, so every change of this source is foreign",
            source.options.owner
        );
        reader.warn(plan.complaint(
            &format!("sources.{name}"),
            what,
            suggestion(&source.options.owner, owners.iter().copied()),
        ));
    }
}

fn unused(reader: &Reader<'_>, plan: &Plan) {
    let targets: BTreeSet<&str> = plan
        .channels
        .values()
        .map(|channel| &*channel.options.target)
        .collect();
    let uses = plan
        .sources
        .values()
        .flat_map(|source| &source.plugins)
        .chain(plan.channels.values().flat_map(|channel| &channel.plugins));
    let plugins: BTreeSet<&str> = uses.map(|used| &*used.plugin).collect();
    for name in plan
        .targets
        .keys()
        .filter(|name| !targets.contains(&***name))
    {
        reader.warn(plan.complaint(
            &format!("targets.{name}"),
            "no channel delivers to this target",
            None,
        ));
    }
    let paces: BTreeSet<&str> = plan
        .targets
        .values()
        .filter_map(|target| target.pace.as_deref())
        .collect();
    for name in plan
        .places
        .keys()
        .filter_map(|path| path.strip_prefix("paces."))
    {
        if !paces.contains(name) {
            reader.warn(plan.complaint(
                &format!("paces.{name}"),
                "no target keeps to this pace",
                Some(format!(
                    "write pace = {name:?} in the targets that share it"
                )),
            ));
        }
    }
    for name in plan
        .plugins
        .keys()
        .filter(|name| !plugins.contains(&***name))
    {
        reader.warn(plan.complaint(&format!("plugins.{name}"), "nothing uses this plugin", None));
    }
}
