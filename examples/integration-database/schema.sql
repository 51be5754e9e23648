-- The table that Weir keeps. Weir writes all of these columns; more may be added if they have a default or may be NULL.
CREATE TABLE products (
  sku        text PRIMARY KEY,
  sequence   bigint NOT NULL,                  -- keeps an older state from replacing a newer one
  name       text,
  tags       text[],
  weight     numeric,
  price      numeric(12,2),
  currency   char(3),
  valid_from timestamptz,
  state      jsonb,                            -- all that is known of the product
  deleted    boolean NOT NULL DEFAULT false
);
