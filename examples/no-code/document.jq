# A product becomes one document of the index.

.facets.content
| {
    body: {
      title,
      text,
      vendor,
      tags,
      skus: [.variants[].sku],
      price_from: ([.variants[].price | tonumber] | min),
      available: any(.variants[]; .stock > 0)
    }
  }
