"""Vector, if a `vector` is in the PATH: configurations with which a team would use it as a bridge."""

import shutil

from .processes import listens
from .systems import System

# The mapping of Weir's plugin `pim-product` in Vector's language.
MAPPING = """
product = object!(.product)
values = object!(product.values)
content = {"enabled": product.enabled, "family": product.family, "categories": product.categories}
for_each(["cord_length", "description", "name", "seq"]) -> |_i, attribute| {
  list = get!(values, [attribute])
  best = null
  best_rank = -1
  if is_array(list) {
    for_each(array!(list)) -> |_j, value| {
      if value.data != null && (value.locale == null || value.locale == "LOCALE") && (value.scope == null || value.scope == "ecommerce") {
        rank = 0
        if value.locale != null { rank = rank + 2 }
        if value.scope != null { rank = rank + 1 }
        if rank >= best_rank {
          best = value.data
          best_rank = rank
        }
      }
    }
  }
  if best != null { content = set!(content, [attribute], best) }
}
. = {"type": "product", "key": product.identifier, "facets": {"content.LOCALE": content}}
"""
FIELDS = ["type", "facet", "version", "value.amount", "value.currency", "value.note", "value.seq", "value.valid_from", "path", "source_type",
          "timestamp"]


class Vector(System):
    """Options: batch, concurrency (1 keeps the order), buffer (memory, disk), acknowledged (the sender waits for every sink, or with a disk
    buffer for the buffers), reduced (the newest event of a key in each second)."""

    buffer, concurrency, acknowledged, reduced = "memory", 8, False, False

    @staticmethod
    def installed(home):
        return shutil.which("vector")

    def start(self):
        config = f'data_dir = "{self.data}"\n[sources.events]\ntype = "http_server"\naddress = "127.0.0.1:{self.port}"\npath = "/events"\n'
        config += 'response_code = 202\nframing.method = "newline_delimited"\ndecoding.codec = "json"\n'
        inputs = ["events", "events"]
        if self.mapped:
            for number, locale in enumerate(["de_DE", "fr_FR"]):
                inputs[number] = f"map_{locale}"
                mapping = MAPPING.replace("LOCALE", locale)
                config += f"[transforms.map_{locale}]\ntype = \"remap\"\ninputs = [\"events\"]\nsource = '''{mapping}'''\n"
        if self.reduced:
            inputs = ["newest", "newest"]
            config += '[transforms.newest]\ntype = "reduce"\ninputs = ["events"]\ngroup_by = ["key"]\n'
            config += "expire_after_ms = 1000\nend_every_period_ms = 1000\nflush_period_ms = 500\n"
            config += "".join(f'merge_strategies."{field}" = "retain"\n' for field in FIELDS)
        for number in self.sites:
            config += f'[sinks.s{number}]\ntype = "http"\ninputs = ["{inputs[number % 2]}"]\nuri = "{self.site(number)}"\nmethod = "post"\n'
            config += 'encoding.codec = "json"\nencoding.except_fields = ["path", "source_type", "timestamp"]\nhealthcheck.enabled = false\n'
            config += f"request.concurrency = {self.concurrency}\nbatch.max_events = {self.batch}\n"
            if self.buffer == "disk":
                config += 'buffer.type = "disk"\nbuffer.max_size = 1073741824\n'
            if self.acknowledged:
                config += "acknowledgements.enabled = true\n"
        (self.folder / "vector.toml").write_text(config)
        self.spawn("vector", "--config", "vector.toml", "--quiet", env={"VECTOR_LOG": "warn"})
        self.wait(30, "vector is ready", lambda: listens(self.port))
        self.url = f"http://127.0.0.1:{self.port}/events"
