# What mappings need and jaq lacks, or does in another way than jq. Each definition behaves as in jq 1.8, except `put`,
# `fail` and `version_from_time`, which are Weir's own.

# Changes through what is missing. setpath and delpaths are written in Rust.
# `put(.price.amount; "9.90")` makes `price`, as `.price.amount = "9.90"` does in jq.
def put(path; value): . as $in | reduce path(path) as $path (.; setpath($path; $in | value));
def del(paths): delpaths([path(paths)]);

# A failure with a code of its own, which quarantines the event or refuses the entity.
def fail($code; $message): error({ code: $code, message: $message });

# Lists and objects.
def min_by(value): first(min_by_or_empty(value), null);
def max_by(value): first(max_by_or_empty(value), null);
def min: min_by(.);
def max: max_by(.);
def pick(paths): . as $in | reduce path(paths) as $path (null; setpath($path; $in | getpath($path)));
def flatten($depth):
  if $depth < 0 then error("flatten depth must not be negative")
  else reduce .[] as $item ([]; . + if ($item | isarray) and $depth > 0 then $item | flatten($depth - 1) else [$item] end) end;
def bsearch_of_jaq($item): bsearch($item);
def bsearch($item): if isarray then bsearch_of_jaq($item) else error("\(type) (\(tojson)) cannot be searched from") end;
def INDEX(stream; key): reduce stream as $row ({}; .[$row | key | tostring] = $row);
def INDEX(key): INDEX(.[]; key);
def IN(stream; list): any(stream == list; .);
def JOIN($index; key): [.[] | [., $index[key]]];
def JOIN($index; stream; key): stream | [., $index[key]];
def JOIN($index; stream; key; joined): stream | [., $index[key]] | joined;
def toarray: if isarray then . else [.] end;
def leaf_paths: paths(scalars);
def from_entries: reduce .[] as $entry ({};
  ($entry | if isobject | not then null
    else if .key != null then .key elif .k != null then .k elif .name != null then .name
      elif .Name != null then .Name elif .Key != null then .Key else .K end
    end) as $key
  | ($entry | if has("value") then .value elif has("v") then .v else .Value end) as $value
  | .[$key | if isstring then . elif isnumber or isboolean or . == null then tojson
      else error("cannot use \(tojson) as the key of an object") end] = $value);

# Texts.
def @csv: [.[] | if isstring then "\"" + (. / "\"" | join("\"\"")) + "\""
    elif isarray or isobject then error("cannot write \(tojson) into a row of CSV") else . end] | join(",");
def @tsv: [.[] | if isstring then . / "\\" | join("\\\\") | . / "\t" | join("\\t") | . / "\n" | join("\\n") | . / "\r" | join("\\r")
    elif isarray or isobject then error("cannot write \(tojson) into a row of TSV") else . end] | join("\t");
def ascii: [.] | implode;

# Times of fewer than six numbers.
def broken_down($name): if isnumber then . elif isarray and all(isnumber) then . + [range(length; 6) | 0]
    else error("\($name) requires parsed datetime inputs") end;
def format_of($name): if isstring then . else error("\($name) requires a string format") end;
def strftime_of_jaq($format): strftime($format);
def strftime($format): broken_down("strftime/1") | strftime_of_jaq($format | format_of("strftime/1"));
def strflocaltime_of_jaq($format): strflocaltime($format);
def strflocaltime($format): broken_down("strflocaltime/1") | strflocaltime_of_jaq($format | format_of("strflocaltime/1"));
def mktime_of_jaq: mktime;
def mktime: broken_down("mktime") | mktime_of_jaq;
def date: todate;
def dateadd(unit; number): . + number;
def datesub(unit; number): . - number;

# Streams.
def limit_of_jaq($count; stream): limit($count; stream);
def limit($count; stream): if $count < 0 then error("limit doesn't support negative count") else limit_of_jaq($count; stream) end;
def skip_of_jaq($count; stream): skip($count; stream);
def skip($count; stream): if $count < 0 then error("skip doesn't support negative count") else skip_of_jaq($count; stream) end;
def nth($index; stream): if $index < 0 then error("nth doesn't support negative indices") else first(skip_of_jaq($index; stream)) end;
def tostream: path(def r: (.[]?|r), .; r) as $p | getpath($p) | reduce path(.[]?) as $q ([$p, .]; [$p + $q]);
def fromstream(events): { x: null, e: false } as $start
  | foreach events as $event ($start;
      if .e then $start else . end
      | if $event | length == 2
        then put(.e; $event[0] | length == 0) | setpath(["x"] + $event[0]; $event[1])
        else put(.e; $event[0] | length == 1) end;
      if .e then .x else empty end);
def truncate_stream(stream): . as $depth | stream
  | . as $event | if ($event[0] | length) > $depth then [$event[0][$depth:]] + $event[1:] else empty end;

# Numbers keep every digit until a program calculates with them.
def have_literal_numbers: true;
def have_decnum: true;
