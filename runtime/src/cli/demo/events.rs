//! The events of the three systems, in the formats that such systems really send: IDocs,
//! CloudEvents, inventory webhooks.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::facts::Content;

/// Sales organisation, distribution channel and price list type of a price list, as the example's
/// configuration maps them.
const PRICE_LISTS: [(&str, [&str; 3]); 3] = [
    ("de-retail", ["1000", "10", "01"]),
    ("at-retail", ["1000", "10", "03"]),
    ("fr-retail", ["2000", "10", "02"]),
];
/// The OMS's numbers of the locations, as the example's configuration maps them.
const LOCATIONS: [(&str, u64); 2] = [("berlin", 24_826_418), ("lyon", 74_852_401_203)];

/// An IDoc: its control record, followed by `segments`.
pub(super) fn idoc(message: &str, sender: &str, serial: i64, segments: &str) -> String {
    let time = moment(serial).to_zoned(TimeZone::UTC);
    let (day, clock) = (time.strftime("%Y%m%d"), time.strftime("%H%M%S"));
    format!(
        "<IDOC BEGIN=\"1\"><EDI_DC40 SEGMENT=\"1\"><TABNAM>EDI_DC40</TABNAM><MANDT>100</MANDT><DOCNUM>{serial:016}</DOCNUM>\
         <DIRECT>1</DIRECT><MESTYP>{message}</MESTYP><SNDPRT>LS</SNDPRT><SNDPRN>{sender}</SNDPRN><RCVPRN>WEIR</RCVPRN>\
         <CREDAT>{day}</CREDAT><CRETIM>{clock}</CRETIM><SERIAL>{day}{clock}{:03}</SERIAL></EDI_DC40>{segments}</IDOC>",
        serial.rem_euclid(1000)
    )
}

/// IDocs as one document, as the port sends them.
pub(super) fn document(idocs: &[String]) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><COND_A04>{}</COND_A04>",
        idocs.concat()
    )
}

/// The condition record of one price list; without an amount it is flagged for deletion.
pub(super) fn condition(key: &str, list: &str, amount: Option<&str>) -> String {
    let [organisation, channel, kind] = PRICE_LISTS
        .iter()
        .find(|(name, _)| *name == list)
        .map_or(["", "", ""], |(_, codes)| *codes);
    let (amount, deleted) = (
        amount.unwrap_or("0.00"),
        if amount.is_none() {
            "<LOEVM_KO>X</LOEVM_KO>"
        } else {
            ""
        },
    );
    format!(
        "<E1KOMG SEGMENT=\"1\"><KVEWE>A</KVEWE><KOTABNR>006</KOTABNR><KAPPL>V</KAPPL><KSCHL>PR00</KSCHL><VKORG>{organisation}</VKORG>\
         <VTWEG>{channel}</VTWEG><PLTYP>{kind}</PLTYP><MATNR>{key:0>18}</MATNR><E1KONH SEGMENT=\"1\"><KNUMH>0000104711</KNUMH>\
         <DATAB>20200101</DATAB><DATBI>99991231</DATBI><E1KONP SEGMENT=\"1\"><KOPOS>01</KOPOS><KSCHL>PR00</KSCHL><KRECH>C</KRECH>\
         <KBETR>{amount}</KBETR><KONWA>EUR</KONWA><KPEIN>1</KPEIN><KMEIN>PCE</KMEIN>{deleted}</E1KONP></E1KONH></E1KOMG>"
    )
}

/// The master data of a material.
pub(super) fn material(key: &str, text: &str) -> String {
    format!(
        "<E1MARAM SEGMENT=\"1\"><MSGFN>005</MSGFN><MATNR>{key:0>18}</MATNR><MTART>FERT</MTART><MATKL>HOME</MATKL><MEINS>PCE</MEINS>\
         <E1MAKTM SEGMENT=\"1\"><MSGFN>005</MSGFN><SPRAS>D</SPRAS><MAKTX>{text}</MAKTX><SPRAS_ISO>DE</SPRAS_ISO></E1MAKTM></E1MARAM>"
    )
}

/// A CloudEvent of the PIM.
pub(super) fn cloud_event(kind: &str, at: i64, data: Value) -> Value {
    json!({
        "specversion": "1.0",
        "id": format!("{at:x}-{kind}"),
        "source": "https://pim.example.com",
        "type": format!("com.akeneo.pim.v1.{kind}"),
        "time": moment(at).to_string(),
        "datacontenttype": "application/json",
        "data": data,
    })
}

/// A product as the PIM exports it, whole.
pub(super) fn product(key: &str, content: &Content, at: i64) -> Value {
    let each = |texts: &[(&str, Option<String>)], scope: Option<&str>| -> Vec<Value> {
        texts
            .iter()
            .map(|(locale, data)| json!({ "locale": locale, "scope": scope, "data": data }))
            .collect()
    };
    json!({ "product": {
        "identifier": key,
        "family": content.family,
        "enabled": content.enabled,
        "categories": content.categories,
        "values": {
            "sku": [{ "locale": null, "scope": null, "data": key }],
            "name": each(&content.names(), None),
            "description": each(&content.descriptions(), Some("ecommerce")),
        },
        "updated": moment(at).to_string(),
    } })
}

/// An event of the PIM that concerns no product, as PIMs send all day.
pub(super) fn category(at: i64) -> Value {
    cloud_event(
        "category.updated",
        at,
        json!({ "category": { "code": "home" } }),
    )
}

/// An inventory level.
pub(super) fn level(key: &str, location: &str, available: i64, at: i64) -> Value {
    let number = LOCATIONS
        .iter()
        .find(|(name, _)| *name == location)
        .map_or(0, |(_, number)| *number);
    json!({
        "inventory_item_id": 808_000_000_u64 + key.parse::<u64>().unwrap_or(0),
        "location_id": number,
        "available": available,
        "updated_at": moment(at).to_string(),
        "sku": key,
    })
}

/// A misrouted webhook: an order instead of an inventory level.
pub(super) fn order(at: i64) -> Value {
    json!({ "id": at, "name": "#9999", "line_items": [{ "sku": "4711", "quantity": 1 }] })
}

/// Milliseconds since 1970 as a timestamp.
fn moment(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}
