//! A plan as JSON for users: effective values, written as in a file, with secrets as `[secret]`.

use serde_json::{Map, Value, json};

use super::secrets::SECRET;
use super::{
    Channel, Outside, Plan, Plugin, Reply, Source, Use, listeners, notify, targets, telemetry,
};
use crate::config::scalar::{duration_text, share_text, size_text};
use crate::dispatch::hours::Hours;
use crate::ingest::form::Form;
use crate::ingest::handshake::Handshake;
use crate::ingest::naming::IdFrom;
use crate::ingest::split::{Dialect, Split};
use crate::ingest::verify::{self, Content, Encoding, Place, Scheme, Stamp, Unit};
use crate::model::{EntityType, Lane};
use crate::signature::{Algorithm, Secret};

/// The plan as JSON, for `GET /v1/config`. In addition to secrets it hides every text in settings
/// and URLs that came from the environment or a file, because it may be a secret.
pub fn redacted(plan: &Plan) -> Value {
    let outside = &plan.outside;
    json!({
        "config_version": crate::config::VERSION,
        "files": plan.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
        "server": listeners::shown(&plan.server),
        "tokens": plan.tokens.iter().map(|token| (token.name.clone(), json!({"secret": SECRET, "role": token.role.name()}))).collect::<Map<_, _>>(),
        "telemetry": plan.telemetry.as_ref().map(|it| telemetry::shown(it, outside)),
        "store": { "path": plan.store_path.display().to_string(), "forget": duration_text(plan.forget), "sequence_min": plan.sequence_min },
        "lanes": Lane::ALL.map(|lane| (lane.name().to_owned(), plan.shares[lane.index()].into())).into_iter().collect::<Map<_, _>>(),
        "entities": plan.entities.iter().map(|(name, entity)| (name.to_string(), entity_type(entity))).collect::<Map<_, _>>(),
        "plugins": plan.plugins.iter().map(|(name, plugin)| (name.to_string(), of_plugin(plugin, outside))).collect::<Map<_, _>>(),
        "sources": plan.sources.iter().map(|(name, source)| (name.to_string(), of_source(source, outside))).collect::<Map<_, _>>(),
        "targets": plan.targets.iter().map(|(name, target)| (name.to_string(), targets::shown(target, outside))).collect::<Map<_, _>>(),
        "notify": plan.notify.iter().map(|receiver| notify::shown(receiver, outside)).collect::<Vec<_>>(),
        "channels": plan.channels.iter().map(|(name, channel)| (name.to_string(), of_channel(channel, outside))).collect::<Map<_, _>>(),
    })
}

fn entity_type(entity: &EntityType) -> Value {
    let facet = |rule: &crate::model::FacetRule| {
        (
            rule.pattern.to_string(),
            json!({"owner": &*rule.owner, "lane": rule.lane.name()}),
        )
    };
    json!({
        "kind": "state",
        "facets": entity.facets.iter().map(facet).collect::<Map<_, _>>(),
        "facet_max": size_text(entity.facet_bytes_max),
        "entities_max": entity.entities_max,
    })
}

fn of_plugin(plugin: &Plugin, outside: &Outside) -> Value {
    let limits = &plugin.limits;
    let mut shown = json!({
        "path": plugin.path.display().to_string(),
        "sha256": plugin.sha256,
        "settings": settings(&plugin.settings, outside),
        "limits": {
            "time": duration_text(limits.time),
            "memory": size_text(limits.memory_bytes as u64),
            "output": size_text(limits.output_bytes as u64),
            "log": size_text(limits.log_bytes as u64),
        },
        "strict": limits.strict,
    });
    if let Some(name) = plugin.builtin {
        shown["builtin"] = name.into();
    }
    shown
}

fn of_source(source: &Source, outside: &Outside) -> Value {
    let options = &source.options;
    json!({
        "owner": &*options.owner,
        "plugins": uses(&source.plugins, outside),
        "split": match &options.split {
            Split::Whole => Value::Null,
            Split::Xml(element) => format!("xml:{element}").into(),
            Split::Json(pointer) => format!("json:{pointer}").into(),
            Split::Csv(_) => "csv".into(),
            Split::Lines => "lines".into(),
        },
        "headers": options.headers,
        "id": match &options.naming.id {
            Some(IdFrom::Header(headers)) => json!({"header": one_or_all(headers)}),
            Some(IdFrom::Pointer(pointer)) => json!({"pointer": pointer}),
            None => Value::Null,
        },
        "verify": verification(&options.verify),
        "handshake": match &options.handshake {
            Some(Handshake::Meta { tokens }) => json!({"kind": "meta", "tokens": hidden(tokens)}),
            Some(handshake) => handshake.name().into(),
            None => Value::Null,
        },
        "quiet": options.quiet.map(duration_text),
        "body_max": size_text(options.body_bytes_max),
        "csv": match options.split {
            Split::Csv(Dialect { delimiter, quote }) => json!({
                "delimiter": delimiter.map(|byte| char::from(byte).to_string()),
                "quote": quote.map_or_else(String::new, |byte| char::from(byte).to_string()),
            }),
            _ => Value::Null,
        },
        "encoding": options.encoding.map(|encoding| encoding.name().to_lowercase()),
        "form": match &options.form {
            Form::Payload => "payload".into(),
            Form::Fields => "fields".into(),
            Form::Raw => "raw".into(),
            Form::Field(name) => json!({"field": name}),
        },
        "unreadable": if options.unreadable { "quarantine" } else { "reject" },
        "reply": reply(&source.reply, outside),
    })
}

fn reply(reply: &Reply, outside: &Outside) -> Value {
    let (media_type, body) = reply.body.as_ref().map_or_else(Default::default, |body| {
        (
            Some(body.media_type.as_str()),
            hide(&body.text.as_str().into(), outside),
        )
    });
    json!({ "status": reply.status, "type": media_type, "body": body })
}

fn hidden(secrets: &[Secret]) -> Vec<&'static str> {
    vec![SECRET; secrets.len()]
}

fn one_or_all(names: &[String]) -> Value {
    match names {
        [name] => name.as_str().into(),
        names => names.into(),
    }
}

fn verification(options: &verify::Options) -> Value {
    let kind = options.kind();
    match options {
        verify::Options::None => json!({"kind": kind}),
        verify::Options::Bearer { tokens } => json!({"kind": kind, "tokens": hidden(tokens)}),
        verify::Options::Token { place, tokens } => {
            let mut shown = json!({"kind": kind, "tokens": hidden(tokens)});
            match place {
                Place::Header(name) => shown["header"] = name.as_str().into(),
                Place::Query(name) => shown["query"] = name.as_str().into(),
            }
            shown
        }
        verify::Options::Basic { logins } => json!({"kind": kind, "passwords": hidden(logins)}),
        verify::Options::Signed(scheme) => signature(scheme),
    }
}

fn signature(scheme: &Scheme) -> Value {
    let mut shown = json!({
        "kind": scheme.kind,
        "algorithm": match scheme.algorithm {
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha384 => "sha384",
            Algorithm::Sha512 => "sha512",
        },
        "secrets": vec![SECRET; scheme.keys.len()],
    });
    if let Content::Template(pieces) = &scheme.content {
        let names = match &scheme.headers[..] {
            [_] => "header",
            _ => "headers",
        };
        shown[names] = one_or_all(&scheme.headers);
        shown["prefix"] = scheme.prefix.as_str().into();
        shown["encoding"] = match scheme.encoding {
            Encoding::Hex => "hex".into(),
            Encoding::Base64 => "base64".into(),
        };
        shown["separator"] = scheme.separator.map(String::from).into();
        shown["template"] = verify::in_template(pieces).into();
    }
    if let Some(stamp) = &scheme.timestamp {
        let Stamp {
            header,
            prefix,
            unit,
            tolerance,
        } = stamp;
        let unit = match unit {
            Unit::Seconds => "s",
            Unit::Milliseconds => "ms",
        };
        let tolerance = duration_text(*tolerance);
        shown["timestamp"] =
            json!({"header": header, "prefix": prefix, "unit": unit, "tolerance": tolerance});
    }
    if let Some(url) = &scheme.url {
        shown["url"] = url.as_str().into();
    }
    shown
}

/// The hours of lanes, as a file would write them.
fn hours(hours: &Hours) -> Value {
    let lanes = Lane::ALL.into_iter().filter_map(|lane| {
        let span = hours.lanes[lane.index()]?;
        Some((lane.name().to_owned(), span.to_string().into()))
    });
    let zone = hours.zone_name();
    let mut shown: Map<String, Value> = lanes.collect();
    shown.insert("zone".to_owned(), zone.into());
    Value::Object(shown)
}

fn of_channel(channel: &Channel, outside: &Outside) -> Value {
    let options = &channel.options;
    json!({
        "entity": &*options.entity_type,
        "facets": options.facets,
        "needs": options.needs,
        "plugins": uses(&channel.plugins, outside),
        "target": &*options.target,
        "batch": options.batch,
        "batch_bytes": size_text(options.batch_bytes as u64),
        "deliver": options.deliver,
        "suppress": options.suppress,
        "freshness": options.freshness.map(duration_text),
        "debounce": options.debounce.map(|debounce| duration_text(debounce.quiet)),
        "debounce_max": options.debounce.map(|debounce| duration_text(debounce.max)),
        "hours": options.hours.as_ref().map(hours),
        "drift": channel.drift.map(|drift| json!({"every": duration_text(drift.every), "sample": drift.sample})),
        "retry": {
            "first": duration_text(options.retry.first),
            "factor": options.retry.factor,
            "cap": duration_text(options.retry.cap),
            "attempts": options.retry.attempts,
            "refused": duration_text(options.retry.refused),
        },
        "withdraw_max": {
            "share": share_text(options.withdraw_max.share),
            "per": duration_text(options.withdraw_max.per),
            "min": options.withdraw_max.min,
        },
        "was": options.was,
    })
}

fn uses(uses: &[Use], outside: &Outside) -> Vec<Value> {
    uses.iter()
        .map(|used| json!({"use": &*used.plugin, "settings": settings(&used.settings, outside)}))
        .collect()
}

fn settings(object: &Map<String, Value>, outside: &Outside) -> Value {
    Value::Object(
        object
            .iter()
            .map(|(key, value)| (key.clone(), hide(value, outside)))
            .collect(),
    )
}

fn hide(value: &Value, outside: &Outside) -> Value {
    match value {
        Value::String(text) if outside.is_in(text) => SECRET.into(),
        Value::Array(items) => items.iter().map(|item| hide(item, outside)).collect(),
        Value::Object(object) => settings(object, outside),
        other => other.clone(),
    }
}
