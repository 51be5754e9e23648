//! Maps the material master to `base`: the properties of a product without description and price.
//!
//! `E1MARAM` contains the general data, each `E1MAKTM` the short text in one language, each
//! `E1MARCM` one plant.

use crate::change;
use crate::idoc::{Element, Idoc};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use weir_plugin::{Change, Result};

/// The facet's value.
#[derive(Serialize)]
struct Base<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gtin: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<Weight<'a>>,
    texts: BTreeMap<String, &'a str>,
    plants: BTreeSet<&'a str>,
}

/// Decimal text, unchanged from the material master.
#[derive(Serialize)]
struct Weight<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    gross: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    net: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
}

/// Adds one change for each material of the IDoc.
pub(crate) fn changes(idoc: &Idoc, changes: &mut Vec<Change>) -> Result<()> {
    for material in idoc.segments("E1MARAM") {
        let version = idoc.version()?;
        let product = material.material_number(idoc)?;
        // Function 003 deletes the record itself; the flag marks it for deletion by the next
        // archiving run.
        let deleted = material.field("MSGFN") == Some("003") || material.flag("LVORM");
        let base = match deleted {
            true => None,
            false => Some(base(material, idoc)?),
        };
        changes.push(change(product, "base".into(), base.as_ref(), version)?);
    }
    Ok(())
}

fn base<'a>(material: &'a Element, idoc: &Idoc) -> Result<Base<'a>> {
    let mut texts = BTreeMap::new();
    for text in material
        .segments("E1MAKTM")
        .filter(|text| text.field("MSGFN") != Some("003"))
    {
        // The two-letter code is preferred; the older key of one letter is SAP's own.
        let language = match text.field("SPRAS_ISO") {
            Some(language) => language,
            None => text.needed("SPRAS", idoc)?,
        };
        texts.insert(language.to_lowercase(), text.needed("MAKTX", idoc)?);
    }
    let plants = material
        .segments("E1MARCM")
        .filter(|plant| plant.field("MSGFN") != Some("003") && !plant.flag("LVORM"));
    let weight = Weight {
        gross: material.field("BRGEW"),
        net: material.field("NTGEW"),
        unit: material.field("GEWEI"),
    };
    Ok(Base {
        r#type: material.field("MTART"),
        group: material.field("MATKL"),
        unit: material.field("MEINS"),
        gtin: material.field("EAN11"),
        weight: (weight.gross.is_some() || weight.net.is_some()).then_some(weight),
        texts,
        plants: plants.filter_map(|plant| plant.field("WERKS")).collect(),
    })
}
