# The adapter of CloudEvents for webhooks of GitHub. What a rule does not say is as at the end.

def at: if isnumber then todate else . end;
def plain: { action: null };
def by_id(thing): { subject: (thing | .id), time: (thing | .updated_at) };
def of_owner: { source: .repository.owner.url, subject: .repository.name, time: .repository.updated_at };

($event["x-github-event"] // fail("missing-header"; "there is no header x-github-event")) as $name
| ($event["x-github-delivery"] // fail("missing-header"; "there is no header x-github-delivery")) as $id
| (
    if $name == "check_run" then by_id(.check_run) + { time: (.check_run | .completed_at // .started_at) }
    elif $name | IN("check_suite", "project", "project_card", "project_column") then by_id(.[$name])
    elif $name == "commit_comment" then by_id(.comment) + { source: (.comment | "\(.url)/\(.commit_id)") }
    elif $name | IN("create", "delete") then { action: .ref_type, subject: .ref }
    elif $name == "deploy_key" then { subject: .key.id, time: (.key | .deleted_at // .created_at) }
    elif $name == "deployment" then plain + by_id(.deployment)
    elif $name == "deployment_status" then
      { source: .deployment.url } + (.deployment_status | { action: .state, subject: .url, time: .updated_at })
    elif $name == "fork" then plain + { subject: .forkee.url, time: .forkee.created_at }
    elif $name == "github_app_authorization" then plain + { source: .sender.url }
    elif $name == "gollum" then plain
    elif $name | startswith("installation") then
      { name: ($name | sub("repositories$"; "repository")), source: .installation.account.url } + by_id(.installation)
    elif $name == "issue_comment" then by_id(.comment) + { source: .issue.url }
    elif $name == "issues" then { name: "issue", subject: .issue.number, time: .issue.updated_at }
    elif $name == "label" then { subject: .label.name }
    elif $name == "marketplace_purchase" then
      { source: (.sender.url | sub("/[^/]*$"; "")), subject: .marketplace_purchase.account.login, time: .effective_date }
    elif $name == "member" then { subject: .member.login }
    elif $name == "membership" then
      { action: "\(.scope).\(.action)", source: (.team.url // .organization.url), subject: .member.login }
    elif $name == "meta" then { subject: .hook_id, time: .hook.updated_at }
    elif $name == "milestone" then { subject: .milestone.number, time: .milestone.updated_at }
    elif $name == "organization" then { source: .organization.url, subject: .membership.user.login }
    elif $name == "org_block" then { source: .organization.url, subject: .blocked_user.login }
    elif $name == "page_build" then plain + { subject: .build.url, time: .pusher.updated_at }
    elif $name | IN("public", "repository_import") then plain + of_owner
    elif $name == "repository" then of_owner
    elif $name == "pull_request" then { subject: .number, time: .pull_request.updated_at }
    elif $name == "pull_request_review" then
      { source: .pull_request.url, subject: .review.id, time: .review.submitted_at }
    elif $name == "pull_request_review_comment" then
      { source: .pull_request.url, subject: .comment.id, time: .pull_request.updated_at }
    elif $name == "push" then plain + { subject: .ref }
    elif $name == "release" then
      { subject: .release.id }
      + if .action == "created" then { time: .release.created_at }
        else { time: (.release | .published_at // .created_at) } end
    elif $name == "repository_vulnerability_alert" then { subject: .alert.id }
    elif $name == "security_advisory" then
      .security_advisory | { source: "github.com", subject: .ghsa_id, time: .updated_at }
    elif $name == "star" then { time: .starred_at }
    elif $name == "status" then plain + { subject: .sha, time: .updated_at }
    elif $name == "team" then { subject: .team.id, time: .updated_at }
    elif $name == "team_add" then plain + { subject: .team.id }
    else {} end
  ) as $rule
| { name: $name, action, source: (.repository.url // .organization.url // .sender.url) } + $rule
| .time |= at
| {
    type: "delivery",
    key: $id,
    facet: "envelope",
    version: (.time | if . == null then . else version_from_time end),
    value: {
      specversion: "1.0",
      id: $id,
      source: (.source // fail("missing-field"; "the event does not say where it comes from")),
      type: ["com.github", .name, (.action | values)] | join("."),
      subject: (.subject | if . == null then . else tostring end),
      time,
      datacontenttype: "application/json"
    }
  }
| .value |= with_entries(select(.value != null))
