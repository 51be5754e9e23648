//! Maps condition records to `price.<list>`. `E1KOMG` has the key, `E1KONH` the validity, `E1KONP`
//! the amount.
//!
//! A facet has the price that is valid when the IDoc is created, or else the next one; later prices
//! are in `later`. A plugin has no clock, so the IDoc's own date decides which records have
//! expired, and which have begun: a first day that has passed by then, and SAP's last day of all, are
//! no conditions and are left out. If all records of a price list are deleted or expired, its facet is deleted.

use crate::idoc::{Element, Idoc};
use crate::{change, Settings, Unknown};
use serde::Serialize;
use std::collections::BTreeMap;
use weir_plugin::{Change, Error, Result};

/// The facet's value.
#[derive(Serialize)]
struct Price {
    #[serde(flatten)]
    now: Period,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    later: Vec<Period>,
}

/// A price with the first and the last day on which it is valid.
#[derive(Serialize)]
struct Period {
    amount: String,
    currency: String,
    per: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

/// Adds one change for each product and price list in the IDoc.
pub(crate) fn changes(idoc: &Idoc, settings: &Settings, changes: &mut Vec<Change>) -> Result<()> {
    let mut prices: BTreeMap<(&str, &str), Vec<Period>> = BTreeMap::new();
    for key in idoc.segments("E1KOMG") {
        let condition = key.needed("KSCHL", idoc)?;
        // A record with a customer in its key is an agreement with that customer, not a price of a
        // list.
        if !settings
            .condition_types
            .iter()
            .any(|wanted| wanted == condition)
            || key.field("KUNNR").is_some()
        {
            continue;
        }
        let product = key.material_number(idoc)?;
        let Some(list) = price_list(key, idoc, settings)? else {
            continue;
        };
        let periods = prices.entry((product, list)).or_default();
        for validity in key.segments("E1KONH") {
            if let Some(period) = period(validity, condition, product, idoc, settings)? {
                periods.push(period);
            }
        }
    }
    for ((product, list), mut periods) in prices {
        periods.sort_by(|a, b| a.from.cmp(&b.from));
        let mut periods = periods.into_iter();
        let version = idoc.version()?;
        let price = periods.next().map(|now| Price {
            now,
            later: periods.collect(),
        });
        changes.push(change(
            product,
            format!("price.{list}"),
            price.as_ref(),
            version,
        )?);
    }
    Ok(())
}

/// The name of the price list of a record, or `None` if the record is skipped.
fn price_list<'a>(key: &Element, idoc: &Idoc, settings: &'a Settings) -> Result<Option<&'a str>> {
    let organisation = key.needed("VKORG", idoc)?;
    let channel = key.needed("VTWEG", idoc)?;
    let condition = match key.field("PLTYP") {
        Some(list) => format!("{organisation}/{channel}/{list}"),
        None => format!("{organisation}/{channel}"),
    };
    match (settings.price_lists.get(&condition), settings.unknown) {
        (Some(name), _) => Ok(Some(name)),
        (None, Unknown::Skip) => Ok(None),
        (None, Unknown::Fail) => Err(Error::new(
            "unknown-price-list",
            format!(
                "{} has a price for {condition} (VKORG/VTWEG/PLTYP), which the setting `price_lists` does not name; \
                 name it, or set `unknown` to \"skip\"",
                idoc.label()
            ),
        )),
    }
}

/// SAP's last day of a period without an end.
const FOR_GOOD: &str = "99991231";

/// One validity period, or `None` if it is deleted or had expired when the IDoc was created.
fn period(
    validity: &Element,
    condition: &str,
    product: &str,
    idoc: &Idoc,
    settings: &Settings,
) -> Result<Option<Period>> {
    let from = day(validity, "DATAB", idoc)?;
    let until = day(validity, "DATBI", idoc)?;
    // Supplementary conditions follow in further items, with types of their own.
    let Some(item) = validity
        .segments("E1KONP")
        .find(|item| item.field("KSCHL").is_none_or(|kind| kind == condition))
    else {
        return Err(Error::new(
            "missing-field",
            format!(
                "the {condition} record of material {product} in {} has no E1KONP",
                idoc.label()
            ),
        ));
    };
    let over = matches!((until, idoc.day()), (Some(until), Some(today)) if until < today);
    if over || item.flag("LOEVM_KO") {
        return Ok(None);
    }
    let amount = item.needed("KBETR", idoc)?;
    let amount = decimal(amount).ok_or_else(|| {
        Error::new(
            "not-an-amount",
            format!("KBETR of material {product} in {} is `{amount}`, which is not a decimal number such as 9.90", idoc.label()),
        )
    })?;
    let currency = match item.field("KONWA").or(settings.currency.as_deref()) {
        Some("%") => {
            return Err(Error::new(
                "not-an-amount",
                format!(
                    "{condition} of material {product} in {} is a percentage, not a price; take {condition} out of `condition_types`",
                    idoc.label()
                ),
            ));
        }
        Some(currency) => currency.to_owned(),
        None => {
            return Err(Error::new(
                "missing-field",
                format!("KONWA of material {product} in {} is empty, and the setting `currency` gives no default", idoc.label()),
            ));
        }
    };
    let per = match item.field("KPEIN") {
        None => 1,
        Some(per) => match per.parse() {
            Ok(per) if per > 0 => per,
            _ => {
                return Err(Error::new(
                    "not-an-amount",
                    format!("KPEIN of material {product} in {} is `{per}`, which is not a whole number of at least 1", idoc.label()),
                ));
            }
        },
    };
    let begun = |from: &&str| matches!(idoc.day(), Some(today) if *from <= today);
    let unit = item.field("KMEIN").map(str::to_owned);
    Ok(Some(Period {
        amount,
        currency,
        per,
        unit,
        from: from.filter(|from| !begun(from)).map(iso),
        until: until.filter(|until| *until != FOR_GOOD).map(iso),
    }))
}

/// A date field in SAP's form, `20261123`; all zeros mean that there is none.
fn day<'a>(segment: &'a Element, field: &str, idoc: &Idoc) -> Result<Option<&'a str>> {
    match segment.field(field) {
        None | Some("00000000") => Ok(None),
        Some(day) if day.len() == 8 && day.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Some(day))
        }
        Some(day) => Err(Error::new(
            "not-a-date",
            format!(
                "{field} in {} is `{day}`, which is not a date such as 20261123",
                idoc.label()
            ),
        )),
    }
}

fn iso(day: &str) -> String {
    format!("{}-{}-{}", &day[..4], &day[4..6], &day[6..])
}

/// Converts SAP's decimal text to JSON's: a trailing sign moves to the front and leading zeros are
/// removed. Decimal places stay as they are.
fn decimal(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_suffix('-').or_else(|| text.strip_prefix('-')) {
        Some(digits) => ("-", digits.trim()),
        None => ("", text),
    };
    let (whole, places) = match digits.split_once('.') {
        Some((whole, places)) => (whole, Some(places)),
        None => (digits, None),
    };
    let all_digits =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !places.is_none_or(all_digits) {
        return None;
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    Some(match places {
        Some(places) => format!("{sign}{whole}.{places}"),
        None => format!("{sign}{whole}"),
    })
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn an_amount_keeps_its_places_and_loses_its_padding() {
        for (written, meant) in [
            ("9.90", "9.90"),
            ("9.9000", "9.9000"),
            ("0000012.50", "12.50"),
            ("0.00", "0.00"),
            ("000", "0"),
            ("15.00-", "-15.00"),
            ("-15.00", "-15.00"),
            ("99999999999999999999.99", "99999999999999999999.99"),
        ] {
            assert_eq!(decimal(written).as_deref(), Some(meant), "{written}");
        }
    }

    #[test]
    fn text_that_is_not_a_decimal_number_is_rejected() {
        for written in [
            "", "-", "9,90", "1.234,50", "9.", ".90", "9.90 EUR", "1e3", "--1", "٣",
        ] {
            assert_eq!(decimal(written), None, "{written}");
        }
    }
}
