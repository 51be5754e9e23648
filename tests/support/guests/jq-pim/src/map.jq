# Products of a PIM similar to Akeneo, as the plugin pim-product maps them.

# The best of an attribute's values: one for this locale is preferred to one for all, and then one for this channel.
def best($locale):
  [.[] | select(.data != null
    and (.locale == null or .locale == $locale)
    and (.scope == null or .scope == $settings.scope))]
  | max_by([.locale != null, .scope != null]).data;

(.action // $event.type) as $type
| ($type / ".")[-2:] as $words
| if ($words | length) == 2 and $words[0] != "product" and ($words[1] | IN("created", "updated", "removed", "deleted"))
  then empty                    # about something else
  else . end
| (.data // .) as $inner
| ($inner.product // $inner.resource // .data // .) as $product
| ($product.updated // $event.time // .event_datetime) as $time
| ($settings.attributes // ({} | .[("name", "description", "short_description")] = "")) as $attributes
| {
    type: "product",
    key: (first(($product.identifier, $product.uuid) | select(. != null and . != ""))
      // fail("missing-field"; "the product has neither `identifier` nor `uuid`, so it cannot be identified")),
    version: ($time | if . == null then . else version_from_time end)
  } as $change
| $settings.locales[] as $locale
| $change + { facet: "content.\($locale)" }
  + if $type | endswith("product.removed") or endswith(".deleted") then { deleted: true }
    elif $product.values == null then
      fail("missing-field"; "product \($change.key) has no `values`; the PIM must send whole products, not only their changes")
    else
      reduce ($attributes | keys[]) as $attribute ({};
        (($product.values[$attribute]? // []) | best($locale)) as $data
        | ($attributes[$attribute] | if . == "" then $attribute else . end) as $field
        | if $data == null or has($field) then . else .[$field] = $data end)
      | if . == {} then { deleted: true }
        else { value: (({
            enabled: ($product.enabled | if . == null then true else . end),
            family: $product.family,
            categories: ($product.categories // [])
          } | del(.family | select(. == null))) + .) }
        end
    end
