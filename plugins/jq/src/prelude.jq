# What mappings need and jaq lacks, or does in another way than jq. Each definition behaves as in jq 1.8, except `put`,
# `fail` and `version_from_time`, which are Weir's own.

# Changes through what is missing.
def setpath($path; $value):
  if $path == [] then $value
  else
    $path[0] as $key
    | if . != null then . elif $key | isstring then {} else [] end
    | if isarray and ($key | isnumber) and $key >= length then . + [range(length; $key + 1) | null] else . end
    | .[$key] = (.[$key] | setpath($path[1:]; $value))
  end;
# `put(.price.amount; "9.90")` makes `price`, as `.price.amount = "9.90"` does in jq.
def put(path; value): . as $in | reduce path(path) as $path (.; setpath($path; $in | value));
def delpaths($paths):
  reduce ($paths | sort | reverse[]) as $path (.;
    if $path == [] then null
    else
      getpath($path[:-1]) as $around | $path[-1] as $key
      | if $around == null then .
        elif ($around | isarray) and ($key | isnumber) and ($key >= ($around | length) or $key < -($around | length)) then .
        else getpath($path) |= empty end
    end);
def del(paths): delpaths([path(paths)]);

# A failure with a code of its own, which quarantines the event or refuses the entity.
def fail($code; $message): error({ code: $code, message: $message });

# Lists and objects.
def INDEX(stream; key): reduce stream as $row ({}; .[$row | key | tostring] = $row);
def INDEX(key): INDEX(.[]; key);
def IN(list): any(list == .; .);
def IN(stream; list): any(stream == list; .);
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
def join($between): reduce .[] as $item (null;
    (if . == null then "" else . + $between end)
    + ($item | if . == null then "" elif isnumber or isboolean then tojson else . end)) // "";
def trimstr($part): ltrimstr($part) | rtrimstr($part);
def @csv: [.[] | if isnumber or isboolean then tojson elif . == null then ""
    elif isstring then "\"" + (. / "\"" | join("\"\"")) + "\""
    else error("cannot write \(tojson) into a row of CSV") end] | join(",");
def @tsv: [.[] | if isnumber or isboolean then tojson elif . == null then ""
    elif isstring then . / "\\" | join("\\\\") | . / "\t" | join("\\t") | . / "\n" | join("\\n") | . / "\r" | join("\\r")
    else error("cannot write \(tojson) into a row of TSV") end] | join("\t");

# Streams.
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
