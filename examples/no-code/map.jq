# A webhook of the shop becomes one change: a product, or the deletion of one.

{ type: "product", key: (.id | tostring), facet: "content" }
+ if $event["x-shopify-topic"] == "products/delete" then { deleted: true }
  else
    {
      version: (.updated_at | version_from_time),
      value: {
        title: .title,
        text: (.body_html // "" | gsub("<[^>]*>"; " ") | gsub("\\s+"; " ") | trim),
        vendor: .vendor,
        tags: (.tags // "" | split(", ")),
        variants: [.variants[] | { sku, price, stock: .inventory_quantity }]
      }
    }
  end
