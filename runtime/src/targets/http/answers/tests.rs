//! The outcomes of answers, word for word as the APIs give them.

use std::time::Duration;

use serde_json::json;

use super::super::preset;
use super::*;
use crate::targets::{DeliveryId, sample};

fn item(number: u128) -> Item {
    Item {
        id: DeliveryId(number),
        ..sample::item(&format!("sku-{number}"), 1, None)
    }
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered => "delivered",
        Outcome::Throttled { .. } => "throttled",
        Outcome::Retry { .. } => "retry",
        Outcome::Refused { .. } => "refused",
        Outcome::Trip { .. } => "trip",
        Outcome::Forgot { .. } => "forgot",
        Outcome::Ahead { .. } => "ahead",
        Outcome::Pause { .. } => "pause",
        Outcome::Split { .. } => "again",
        Outcome::Repeat { .. } => "repeat",
    }
}

fn outcomes(answers: &Answers, items: u128, status: u16, body: &str) -> Vec<Outcome> {
    let items: Vec<Item> = (0..items).map(item).collect();
    let asked = Asked {
        by_key: false,
        delete: false,
        items: items.len(),
    };
    let response = Response {
        status,
        body: body.as_bytes(),
        wait: Some(Duration::from_secs(2)),
    };
    let batch = items.len() > 1;
    answers.read(asked, &items, batch, &response, &Redactor::default())
}

/// What the answer of `status` and `body` to a request of `items` items means, as words.
fn means(answers: &Answers, items: u128, status: u16, body: &str) -> Vec<&'static str> {
    outcomes(answers, items, status, body)
        .iter()
        .map(word)
        .collect()
}

fn of(name: &str) -> Answers {
    preset(name).expect("a preset")
}

#[test]
fn shopify_answers_everything_with_200() {
    let shopify = of("shopify");
    let cost = r#""extensions":{"cost":{"requestedQueryCost":752,"actualQueryCost":null,"throttleStatus":{"maximumAvailable":1000.0,"currentlyAvailable":666,"restoreRate":50.0}}}"#;
    let error = |code: &str| {
        format!(r#"{{"errors":[{{"message":"Sorry","extensions":{{"code":"{code}"}}}}],{cost}}}"#)
    };
    for (body, expected) in [
        (error("THROTTLED"), "throttled"),
        (error("MAX_COST_EXCEEDED"), "refused"),
        (error("INTERNAL_SERVER_ERROR"), "retry"),
        (error("ACCESS_DENIED"), "trip"),
        (error("SOMETHING_ELSE"), "refused"),
        (
            r#"{"data":{"productSet":{"product":null,"userErrors":[{"field":["title"],"message":"Title can't be blank","code":"BLANK"}]}}}"#.into(),
            "refused",
        ),
        (
            r#"{"data":{"productSet":{"product":{"id":"gid://shopify/Product/1"},"userErrors":[]}}}"#.into(),
            "delivered",
        ),
        (
            r#"{"data":{"productSet":{"product":{"id":"1"},"userErrors":[]}},"errors":[]}"#.into(),
            "delivered",
        ),
        (r#"{"data":{"productSet":null}}"#.into(), "retry"),
        (r#"{"extensions":{}}"#.into(), "retry"),
        ("<html>Be right back</html>".into(), "retry"),
        (String::new(), "delivered"),
    ] {
        assert_eq!(means(&shopify, 1, 200, &body), [expected], "{body}");
    }
    assert_eq!(means(&shopify, 1, 429, ""), ["throttled"]);
    assert_eq!(means(&shopify, 1, 401, "{}"), ["trip"]);
    // These were refused, as if each entity were wrong.
    let key = r#"{"errors":"[API] Invalid API key or access token (unrecognized login or wrong password)"}"#;
    assert_eq!(means(&shopify, 1, 401, key), ["trip"]);
    let exceeded = r#"{"errors":"Exceeded 2 calls per second for api client."}"#;
    assert_eq!(means(&shopify, 1, 429, exceeded), ["throttled"]);
}

#[test]
fn the_reason_names_the_rule_and_quotes_what_it_found() {
    let body = r#"{"data":{"productSet":{"product":null,"userErrors":[{"field":["title"],"message":"Title can't be blank","code":"BLANK"}]}}}"#;
    let outcome = &outcomes(&of("shopify"), 1, 200, body)[0];
    let Outcome::Refused { reason, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        reason,
        "answered 200: [{\"code\":\"BLANK\",\"field\":[\"title\"],\"message\":\"Title can't be blank\"}] (by the rule shopify: user errors)"
    );
    let throttled = &outcomes(
        &of("shopify"),
        1,
        200,
        r#"{"errors":[{"extensions":{"code":"THROTTLED"}}]}"#,
    )[0];
    assert!(
        matches!(throttled, Outcome::Throttled { after: Some(after), .. } if *after == Duration::from_secs(2)),
        "{throttled:?}"
    );
}

#[test]
fn bigcommerce_refuses_a_batch_without_saying_which_item() {
    let bigcommerce = of("bigcommerce");
    let body =
        r#"{"status":422,"title":"The fields are invalid","errors":{"name":"name is too long"}}"#;
    assert_eq!(means(&bigcommerce, 2, 422, body), ["again"; 2]);
    assert_eq!(means(&bigcommerce, 1, 422, body), ["refused"]);
    assert_eq!(means(&bigcommerce, 2, 207, body), ["again"; 2]);
    assert_eq!(means(&bigcommerce, 1, 423, "{}"), ["retry"]);
    assert_eq!(means(&bigcommerce, 1, 429, ""), ["throttled"]);
    assert_eq!(means(&bigcommerce, 1, 503, ""), ["throttled"]);
    assert_eq!(means(&bigcommerce, 1, 507, "{}"), ["trip"]);
}

#[test]
fn commercetools_lists_results_by_position_and_conflicts_wait() {
    let commercetools = of("commercetools");
    let conflict = r#"{"statusCode":409,"message":"Object X has a different version than expected.","errors":[{"code":"ConcurrentModification","currentVersion":5,"message":"Object X has a different version than expected. Expected: 4 - Actual: 5."}]}"#;
    assert_eq!(means(&commercetools, 1, 409, conflict), ["retry"]);
    let busy = r#"{"statusCode":503,"errors":[{"code":"OverCapacity"}]}"#;
    assert_eq!(means(&commercetools, 1, 503, busy), ["throttled"]);
    let bulk = r#"{"successCount":1,"failureCount":2,"results":[{"id":"a","status":"Success"},{"id":"b","status":"Fail","errors":[{"code":"InvalidField"}]},{"id":"c","status":"Fail","errors":[{"code":"ConcurrentModification"}]}]}"#;
    assert_eq!(
        means(&commercetools, 3, 207, bulk),
        ["delivered", "refused", "retry"]
    );
    assert_eq!(
        means(&commercetools, 4, 207, bulk),
        ["retry"; 4],
        "three results say nothing about four items"
    );
    assert_eq!(
        means(&commercetools, 1, 200, r#"{"id":"a","version":5}"#),
        ["delivered"]
    );
}

#[test]
fn magento_accepts_items_by_their_number_and_its_errors_field_means_nothing() {
    let magento = of("magento");
    let body = r#"{"bulk_uuid":"c43ed402","request_items":[{"id":1,"data_hash":"x","status":"rejected"},{"id":0,"data_hash":"y","status":"accepted"}],"errors":false}"#;
    assert_eq!(means(&magento, 2, 202, body), ["delivered", "refused"]);
    assert_eq!(
        means(&magento, 3, 202, body),
        ["delivered", "refused", "retry"],
        "an item that is not named is not delivered"
    );
    let filled =
        r#"{"message":"The \"%1\" attribute of %2 is wrong.","parameters":["color","sku-0"]}"#;
    let outcome = &outcomes(&magento, 1, 400, filled)[0];
    assert!(
        matches!(outcome, Outcome::Refused { reason, .. } if reason.contains("The \"color\" attribute of sku-0 is wrong.")),
        "{outcome:?}"
    );
    let named = filled
        .replace("%1", "%name")
        .replace("%2", "%sku")
        .replace(r#"["color","sku-0"]"#, r#"{"name":"color","sku":"sku-0"}"#);
    let outcome = &outcomes(&magento, 1, 400, &named)[0];
    assert!(
        matches!(outcome, Outcome::Refused { reason, .. } if reason.contains("The \"color\" attribute of sku-0 is wrong.")),
        "{outcome:?}"
    );
}

#[test]
fn parameters_that_hold_each_other_do_not_fill_the_memory() {
    let parameters: Vec<String> = (0..20).map(|at| format!("%{at}").repeat(40)).collect();
    let body = json!({"message": "%20", "parameters": parameters}).to_string();
    assert!(body.len() < FILLED_BYTES_MAX, "{}", body.len());
    let message = filled(body.as_bytes()).expect("a message");
    assert!(message.len() < 10_000, "{}", message.len());
}

#[test]
fn shopware_points_at_the_item_that_sank_the_transaction() {
    let shopware = of("shopware");
    let body = r#"{"errors":[{"code":"c1051bb4","status":"400","detail":"This value should not be blank.","source":{"pointer":"/write_data/2/productNumber"}}]}"#;
    assert_eq!(
        means(&shopware, 4, 400, body),
        ["again", "again", "refused", "again"]
    );
    let deadlock = r#"{"errors":[{"code":"1213","status":"500","title":"Internal Server Error","detail":"Deadlock found when trying to get lock"}]}"#;
    assert_eq!(means(&shopware, 4, 500, deadlock), ["retry"; 4]);
    let done = r#"{"data":{"product":["1"]},"notFound":["2"],"deleted":[]}"#;
    assert_eq!(means(&shopware, 4, 200, done), ["delivered"; 4]);
    let nowhere = r#"{"errors":[{"code":"x","status":"400","detail":"no"}]}"#;
    assert_eq!(means(&shopware, 2, 400, nowhere), ["again"; 2], "halved");
    let outside = body.replace("/2/", "/9/");
    assert_eq!(means(&shopware, 2, 400, &outside), ["again"; 2], "halved");
    // With a status that speaks of the target, an entry refuses nothing, wherever it points.
    assert_eq!(means(&shopware, 4, 403, body), ["trip"; 4]);
    assert_eq!(means(&shopware, 4, 429, body), ["throttled"; 4]);
    assert_eq!(means(&shopware, 4, 500, body), ["retry"; 4]);
}

#[test]
fn akeneo_answers_with_a_line_for_each_item() {
    let akeneo = of("akeneo");
    let lines = "{\"line\":1,\"identifier\":\"a\",\"status_code\":204}\n{\"line\":3,\"identifier\":\"c\",\"status_code\":201}\n{\"line\":2,\"identifier\":\"b\",\"status_code\":422,\"message\":\"Property \\\"x\\\" does not exist.\"}\n";
    assert_eq!(
        means(&akeneo, 3, 200, lines),
        ["delivered", "refused", "delivered"]
    );
    assert_eq!(
        means(&akeneo, 4, 200, lines),
        ["delivered", "refused", "delivered", "retry"]
    );
    let one = r#"{"line":1,"identifier":"a","status_code":422,"message":"no"}"#;
    assert_eq!(means(&akeneo, 1, 200, one), ["refused"]);
    let many =
        r#"{"code":413,"message":"Too many resources to process, 100 is the maximum allowed."}"#;
    assert_eq!(means(&akeneo, 200, 413, many), ["again"; 200]);
    assert_eq!(means(&akeneo, 1, 415, "{}"), ["trip"]);
    assert_eq!(means(&akeneo, 1, 408, ""), ["retry"]);
    assert_eq!(means(&akeneo, 1, 204, ""), ["delivered"]);
}

#[test]
fn salesforce_lists_results_by_position_and_its_daily_limit_is_a_403() {
    let salesforce = of("salesforce");
    let body = r#"[{"id":"1","success":true,"errors":[]},{"success":false,"errors":[{"statusCode":"DUPLICATE_VALUE","message":"duplicate"}]},{"success":false,"errors":[{"statusCode":"UNABLE_TO_LOCK_ROW","message":"locked"}]}]"#;
    assert_eq!(
        means(&salesforce, 3, 200, body),
        ["delivered", "refused", "retry"]
    );
    let limit =
        r#"[{"message":"TotalRequests Limit exceeded.","errorCode":"REQUEST_LIMIT_EXCEEDED"}]"#;
    assert_eq!(means(&salesforce, 3, 403, limit), ["throttled"; 3]);
    let locked =
        r#"[{"message":"unable to obtain exclusive access","errorCode":"UNABLE_TO_LOCK_ROW"}]"#;
    assert_eq!(means(&salesforce, 1, 400, locked), ["retry"]);
    // One item was wrong, and each of the 200 of the request was refused.
    let rolled_back = r#"[{"success":false,"errors":[{"statusCode":"REQUIRED_FIELD_MISSING","message":"Required fields are missing: [Name]"}]},{"success":false,"errors":[{"statusCode":"ALL_OR_NONE_OPERATION_ROLLED_BACK","message":"Record rolled back because not all records were valid and the request was using AllOrNone header"}]}]"#;
    assert_eq!(
        means(&salesforce, 2, 200, rolled_back),
        ["refused", "retry"]
    );
    let denied = r#"[{"message":"no","errorCode":"INSUFFICIENT_ACCESS"}]"#;
    assert_eq!(means(&salesforce, 3, 403, denied), ["trip"; 3]);
}

#[test]
fn the_import_api_of_commercetools_refuses_a_request_for_one_item_which_it_names() {
    let import = of("commercetools-import");
    let invalid = r#"{"statusCode":400,"error":"Bad Request","message":"Complete request got rejected. Import request has some invalid fields","errors":[{"code":"InvalidField","message":"\"resources[1].key\" is required","field":"resources.1.key","resourceIndex":1}]}"#;
    assert_eq!(
        means(&import, 3, 400, invalid),
        ["again", "refused", "again"]
    );
    let accepted = r#"{"operationStatus":[{"operationId":"252c6ed3","state":"processing"},{"operationId":"8f2b1c9a","state":"processing"}]}"#;
    assert_eq!(means(&import, 2, 201, accepted), ["delivered"; 2]);
    let token = r#"{"statusCode":401,"message":"invalid_token","errors":[{"code":"invalid_token","message":"invalid_token"}]}"#;
    assert_eq!(means(&import, 2, 401, token), ["trip"; 2]);
    let json = r#"{"statusCode":400,"message":"Request body does not contain valid JSON.","errors":[{"code":"InvalidJsonInput","message":"Request body does not contain valid JSON."}]}"#;
    assert_eq!(means(&import, 2, 400, json), ["again"; 2], "halved");
    assert_eq!(means(&import, 1, 400, json), ["refused"]);
    assert!(import.accepted_only);
}

#[test]
fn amazon_refuses_a_listing_with_200_and_says_why() {
    let amazon = of("amazon-listings");
    let invalid = r#"{"sku":"sku-0","status":"INVALID","submissionId":"f1dc2914","issues":[{"code":"90220","message":"'item_name' is required but not supplied.","severity":"ERROR","attributeNames":["item_name"]}]}"#;
    let outcome = &outcomes(&amazon, 1, 200, invalid)[0];
    let Outcome::Refused { reason, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(
        reason.contains("'item_name' is required") && reason.contains("amazon-listings: not valid"),
        "{reason}"
    );
    let accepted = r#"{"sku":"sku-0","status":"ACCEPTED","submissionId":"f1dc2914","issues":[]}"#;
    assert_eq!(means(&amazon, 1, 200, accepted), ["delivered"]);
    assert_eq!(means(&amazon, 1, 200, "{}"), ["retry"]);
    let quota = r#"{"errors":[{"code":"QuotaExceeded","message":"You exceeded your quota for the requested resource.","details":""}]}"#;
    assert_eq!(means(&amazon, 1, 429, quota), ["throttled"]);
    let denied = r#"{"errors":[{"code":"Unauthorized","message":"Access to requested resource is denied.","details":""}]}"#;
    assert_eq!(means(&amazon, 1, 403, denied), ["trip"]);
    assert!(amazon.accepted_only);
}

// The reason of every refusal of Salesforce was "false".
#[test]
fn a_reason_says_more_than_the_value_that_a_rule_looks_for() {
    let body =
        r#"[{"success":false,"errors":[{"statusCode":"DUPLICATE_VALUE","message":"duplicate"}]}]"#;
    let outcome = &outcomes(&of("salesforce"), 1, 200, body)[0];
    assert!(
        matches!(outcome, Outcome::Refused { reason, .. } if reason.contains("DUPLICATE_VALUE")),
        "{outcome:?}"
    );
}

#[test]
fn own_rules_come_before_the_table_of_statuses_and_items_may_be_named_by_id() {
    let rule = |at: &str, is: Test, then: Verdict| Rule {
        name: "answer[0]".into(),
        of_preset: false,
        of_items: false,
        status: Vec::new(),
        at: Pointer::parse(at),
        is,
        then,
    };
    let mut answers = Answers {
        rules: vec![
            rule("/code", Test::OneOf(vec![json!("42")]), Verdict::Throttled),
            rule("/missing", Test::Filled, Verdict::Refused),
        ],
        ..Answers::default()
    };
    for (status, body, expected) in [
        (200, r#"{"code":42}"#, "throttled"),
        (500, r#"{"code":"42"}"#, "throttled"),
        (200, r#"{"code":"x","missing":[]}"#, "delivered"),
        (200, r#"{"missing":["x"]}"#, "refused"),
        (401, r#"{"missing":["wrong key"]}"#, "trip"),
        (429, r#"{"missing":["slow down"]}"#, "throttled"),
        (500, r#"{"missing":["x"]}"#, "retry"),
        (200, "", "delivered"),
        (200, "OK", "retry"),
        (400, "no", "refused"),
    ] {
        assert_eq!(
            means(&answers, 1, status, body),
            [expected],
            "{status} {body}"
        );
    }
    assert_eq!(
        means(&answers, 2, 200, r#"{"code":42,"items":[]}"#),
        ["throttled"; 2],
        "a rule comes before the list of items too"
    );
    assert_eq!(means(&answers, 2, 200, r#"{"items":[]}"#), ["delivered"; 2]);
    answers.items = Items::Results {
        at: Pointer::parse("/results").expect("a pointer"),
        by: Naming::Id(Pointer::parse("/sku").expect("a pointer")),
        status: Pointer::parse("/status").expect("a pointer"),
    };
    let id = DeliveryId(1);
    let body = format!(
        r#"{{"results":[{{"sku":"sku-2","status":"422"}},{{"sku":"{id}","status":200}}]}}"#
    );
    assert_eq!(
        means(&answers, 3, 200, &body),
        ["retry", "delivered", "refused"]
    );
    assert_eq!(
        means(&answers, 3, 200, "{}"),
        ["retry"; 3],
        "nothing is named"
    );
}
