//! An entity filter and a renderer in one crate, without settings.

use weir_plugin::{Entity, Rendering, Result};

fn accept(entity: &Entity) -> Result<bool> {
    Ok(entity.key != "dropped")
}

#[weir_plugin::renderer(filter = accept)]
fn render(entity: &Entity) -> Result<Option<Rendering>> {
    let Some(name) = entity.facet::<String>("name")? else {
        return Ok(None);
    };
    let stock: Vec<&str> = entity.family("stock.").map(|(place, _)| place).collect();
    Ok(Some(
        Rendering::json(&(name, stock))?
            .key(format!("lamp-{}", entity.key))
            .content_type("application/ld+json"),
    ))
}
