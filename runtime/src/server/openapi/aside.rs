//! The description of what is set aside, and of jobs.

use axum::http::Method;
use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::{
    Operation, any_text, as_json, cut, in_query, key, list, member, members, or_saved, page,
    success,
};
use crate::server::views::{JobView, QuarantineView, RefusedView};

/// The operations.
pub(super) fn operations(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    let mut all = set_aside(schemas);
    all.extend(jobs(schemas));
    all
}

/// The routes of what takes long.
fn jobs(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    let number = |least: u64| json!({ "type": "integer", "minimum": least, "maximum": u64::MAX });
    let flag = json!({ "type": "string", "enum": ["true", "false"] });
    let begin = Operation::new(
        Method::POST,
        "/v1/channels/{channel}/drift",
        "beginDrift",
        "Begins a drift check: compares what the target holds with what it should hold. 409: the target cannot be asked, or a check is \
         running.",
        success::<JobView>(schemas, "Its job; `Location` says where to ask for it."),
    )
    .with([
        in_query("sample", number(1), "About how many entities, chosen at random; all if it is left out."),
        in_query("repair", flag, "`true`: what differs is sent again."),
    ])
    .may_answer(&[409, 503]);
    let begin = Operation {
        success: (202, begin.success.1),
        ..begin
    };
    let required = |name: &str, schema: Value, what: &str| json!({ "name": name, "in": "query", "required": true, "schema": schema, "description": what });
    vec![
        begin,
        Operation::new(
            Method::POST,
            "/v1/channels/{channel}/resend",
            "resend",
            "Sends one entity to the channel once more, whatever its target holds.",
            as_json(
                "It is owed again.",
                member("resent", json!({ "type": "integer", "minimum": 0 })),
            ),
        )
        .with([
            required("type", any_text(), "The type of the entity."),
            required("key", key(), "Its key."),
        ])
        .may_answer(&[409, 503]),
        Operation::new(
            Method::GET,
            "/v1/jobs",
            "jobs",
            "Jobs that are running, and the last ones that ended.",
            list::<JobView>(schemas),
        )
        .with(page(any_text())),
        Operation::new(
            Method::GET,
            "/v1/jobs/{job}",
            "job",
            "How far a job is, and its result.",
            success::<JobView>(schemas, "The job."),
        ),
        Operation::new(
            Method::DELETE,
            "/v1/jobs/{job}",
            "cancelJob",
            "Cancels a job. One that has ended stays as it is.",
            success::<JobView>(schemas, "The job as it is after it."),
        ),
    ]
}

/// The routes of refused entities and quarantined events.
fn set_aside(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const DELETE: Method = Method::DELETE;
    let count = |name| {
        as_json(
            "How many.",
            member(name, json!({ "type": "integer", "minimum": 0 })),
        )
    };
    let number = |most: u64| json!({ "type": "integer", "minimum": 0, "maximum": most });
    let code = || in_query("code", any_text(), "For this reason.");
    let refused = || vec![in_query("key", any_text(), "With this key."), code()];
    let quarantined = || {
        let time = || json!({ "type": "string", "format": "date-time" });
        vec![
            in_query("sequence", number(u64::MAX), "This one."),
            code(),
            in_query(
                "plugin",
                any_text(),
                "Because of this plugin: its name, or with its version.",
            ),
            in_query("type", any_text(), "With this CloudEvents type."),
            in_query("since", time(), "That came at this time or later."),
            in_query("before", time(), "That came earlier."),
        ]
    };
    let data = in_query(
        "data",
        json!({ "type": "string", "enum": ["true", "false"] }),
        "`true`: only the data of the first of them, as a file.",
    );
    let all = || {
        [in_query(
            "all",
            json!({ "type": "string", "enum": ["true", "false"] }),
            "`true` instead of a filter: all of them.",
        )]
    };
    let as_job = || {
        let flag = json!({ "type": "string", "enum": ["true", "false"] });
        let least = json!({ "type": "integer", "minimum": 1, "maximum": u64::MAX });
        [
            in_query("job", flag, "`true`: as a job, which is answered at once."),
            in_query("limit", least, "At most so many. With `job=true` only."),
        ]
    };
    let job = success::<JobView>(schemas, "Its job; `Location` says where to ask for it.");
    let (of_channel, of_source) = (
        "/v1/channels/{channel}/refused",
        "/v1/sources/{source}/quarantine",
    );
    vec![
        Operation::new(
            GET,
            of_channel,
            "refused",
            "Entities refused on a channel.",
            list::<RefusedView>(schemas),
        )
        .with(page(number(u32::MAX.into())))
        .with(refused())
        .may_answer(&[409, 503]),
        Operation::new(
            POST,
            "/v1/channels/{channel}/refused/redrive",
            "redriveRefused",
            "Redrives them. As a job, 202: a few at a time, and the job says which of them were refused again. 409: another \
             redrive of the channel is running.",
            count("redriven"),
        )
        .with(refused())
        .with(all())
        .with(as_job())
        .or(202, job.clone())
        .may_answer(&[409, 503]),
        Operation::new(
            DELETE,
            of_channel,
            "dropRefused",
            "Drops them.",
            count("dropped"),
        )
        .with(refused())
        .with(all())
        .may_answer(&[409, 503]),
        Operation::new(
            GET,
            of_source,
            "quarantine",
            "Events in quarantine, oldest first.",
            or_saved(list::<QuarantineView>(schemas)),
        )
        .with(page(number(u64::MAX)))
        .with(quarantined())
        .with([cut(), data])
        .may_answer(&[503]),
        Operation::new(
            POST,
            "/v1/sources/{source}/quarantine/redrive",
            "redriveQuarantine",
            "Redrives them through the plugins; `kept` are those that failed again. As a job, 202: the job says how far it is, \
             and which of them failed again. 409: another redrive of the source is running.",
            as_json(
                "How many.",
                members(
                    ["redriven", "kept"],
                    json!({ "type": "integer", "minimum": 0 }),
                ),
            ),
        )
        .with(quarantined())
        .with(all())
        .with(as_job())
        .or(202, job)
        .may_answer(&[409, 429, 503, 507]),
        Operation::new(
            DELETE,
            of_source,
            "dropQuarantine",
            "Drops them and forgets their ids, so that their sender can send them again.",
            count("dropped"),
        )
        .with(quarantined())
        .with(all())
        .may_answer(&[503]),
        Operation::new(
            POST,
            "/v1/sources/{source}/reset-versions",
            "resetVersions",
            "Forgets the versions of all facets that the source's owner wrote, so that lower ones are accepted: after the source was restored from a copy.",
            count("reset"),
        )
        .may_answer(&[503]),
    ]
}
