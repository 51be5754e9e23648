//! Programs with their inputs and outputs: what the prelude adds, where jaq differs from jq, and how
//! mistakes and failures are named. `runtime/docs/jq.md` states each difference that is shown here.

use jq::{json, Program, Val};
use weir_plugin::Result;

/// The outputs as JSON, or the failure as `code: message`.
fn outputs(input: &str, code: &str) -> String {
    let program = Program::compile(code, &[]).unwrap_or_else(|why| panic!("{code}: {why}"));
    let input = json::read(input).unwrap_or_else(|why| panic!("{input}: {why}"));
    let outputs = program.run(input, |_| Val::Null).take(20);
    match outputs.collect::<Result<Vec<Val>>>() {
        Ok(values) => {
            let written = values
                .iter()
                .map(|value| json::write(value).unwrap_or_else(|why| format!("not JSON: {why}")));
            written.collect::<Vec<_>>().join(" ")
        }
        Err(error) => format!("{}: {}", error.code, error.message),
    }
}

fn check(stories: &[(&str, &str, &str)]) {
    for (input, code, expected) in stories {
        assert_eq!(&outputs(input, code), expected, "{input} | {code}");
    }
}

/// Each of these is as jq 1.8.2 has it, unlike jaq without the prelude.
#[test]
fn the_prelude_adds_what_mappings_need() {
    check(&[
        ("{}", "setpath([\"a\", \"b\"]; 1)", r#"{"a":{"b":1}}"#),
        ("null", "setpath([\"a\", 2]; 1)", r#"{"a":[null,null,1]}"#),
        ("{\"a\":1}", "setpath([]; 2)", "2"),
        ("{}", "del(.a.b)", "{}"),
        ("{\"a\":[1,2,3,4]}", "del(.a[0, 2, 9])", r#"{"a":[2,4]}"#),
        ("{\"a\":1,\"b\":2,\"c\":3}", "del(.a, .c)", r#"{"b":2}"#),
        ("[1,null,2]", "del(.[] | select(. == null))", "[1,2]"),
        ("[1,2,3]", "del(.[1:])", "[1]"),
        ("1", "delpaths([[]])", "null"),
        ("[{\"a\":1,\"b\":2}]", "INDEX(.a)", r#"{"1":{"a":1,"b":2}}"#),
        ("[1,2]", "INDEX(.[]; . + 1)", r#"{"2":1,"3":2}"#),
        ("2", "IN(1, 2), IN(3)", "true false"),
        (
            "2",
            "IN(2, error(\"no\")), IN(empty), try IN(1, error(\"no\")) catch .",
            r#"true false "no""#,
        ),
        ("null", "IN(1, 2; 2, 3)", "true"),
        ("1", "toarray, ([2] | toarray)", "[1] [2]"),
        ("{\"a\":[1]}", "[leaf_paths]", r#"[["a",0]]"#),
        ("[\"a\",null,1,true]", "join(\",\")", r#""a,,1,true""#),
        ("[]", "join(\",\")", "\"\""),
        (
            "[{\"name\":\"a\",\"value\":1},{\"k\":\"b\",\"v\":2}]",
            "from_entries",
            r#"{"a":1,"b":2}"#,
        ),
        ("{\"a\":1}", "with_entries(.value += 1)", r#"{"a":2}"#),
        ("[{\"key\":1,\"value\":2}]", "from_entries", r#"{"1":2}"#),
        ("\"xax\"", "trimstr(\"x\")", "\"a\""),
        (
            "[1.50,\"a\\\"b\",null,true]",
            "@csv",
            r#""1.50,\"a\"\"b\",,true""#,
        ),
        ("[1,\"a\\tb\\\\\"]", "@tsv", r#""1\ta\\tb\\\\""#),
        (
            "[{}]",
            "try @csv catch .",
            r#""cannot write {} into a row of CSV""#,
        ),
        (
            "{\"a\":[1,{\"b\":2}]}",
            "[tostream]",
            r#"[[["a",0],1],[["a",1,"b"],2],[["a",1,"b"]],[["a",1]],[["a"]]]"#,
        ),
        (
            "{\"a\":[1,{\"b\":2}]}",
            "fromstream(tostream)",
            r#"{"a":[1,{"b":2}]}"#,
        ),
        (
            "{\"a\":[1]}",
            "[. as $x | 1 | truncate_stream($x | tostream)]",
            r#"[[[0],1],[[0]]]"#,
        ),
        ("\"[1]\"", "fromjson", "[1]"),
        ("\"5x\"", "[tonumber?]", "[]"),
        (
            r#"["+1","-007",".50","00","-0.10","1e3","12345678901234567890"]"#,
            "map(tonumber)",
            "[1,-7,0.50,0,-0.10,1e3,12345678901234567890]",
        ),
        (
            r#"["","+",".","--1","+-1"," 1","1 ","0x1","nan","1e"]"#,
            "map(try tonumber catch 0) | unique",
            "[0]",
        ),
        (
            "[]",
            "try tonumber catch .",
            r#""array ([]) cannot be parsed as a number""#,
        ),
        ("\"true\"", "toboolean", "true"),
        (
            "[3,null,10]",
            "map(if . then . / 2 else . end) | join(\"-\")",
            r#""1.5--5""#,
        ),
        ("{\"a\":1}", "join(\",\")", r#""1""#),
        (r#"{"c":1,"a":2,"b":3}"#, "del(.c)", r#"{"a":2,"b":3}"#),
        ("[1,2,3]", "del(.[-1], .[0:1])", "[2]"),
        (
            r#"{"a":[{"b":1},{"c":2}]}"#,
            "del(.a[].b)",
            r#"{"a":[{},{"c":2}]}"#,
        ),
        ("[1,[2,3,4]]", "del(.[1][1:])", "[1,[2]]"),
        ("[1,[2,3,4]]", "del(.[1][1:][0])", "[1,[2,4]]"),
        ("[1,2,3]", r#"setpath([{"start": 1}]; [9])"#, "[1,9]"),
        (
            "[1,2,3]",
            r#"try setpath([{"start": 1}]; 9) catch ."#,
            r#""A slice of an array can only be assigned another array""#,
        ),
        (
            "null",
            "try setpath([-1]; 1) catch .",
            r#""Out of bounds negative array index""#,
        ),
        (
            "1",
            "try setpath([\"a\"]; 1) catch .",
            r#""Cannot index number with string (\"a\")""#,
        ),
        (
            "1",
            "try delpaths([[\"a\"]]) catch .",
            r#""Cannot delete field at object index of number""#,
        ),
        ("[[1,[2]],3]", "flatten(1), flatten", "[1,[2],3] [1,2,3]"),
        (r#"{"a":{"b":1,"c":2}}"#, "pick(.a.c)", r#"{"a":{"c":2}}"#),
        (
            "[1,2]",
            "[limit(1; .[])], [skip(1; .[])], nth(1; .[])",
            "[1] [2] 2",
        ),
        (
            "[2024,2,15]",
            "strftime(\"%F\"), mktime",
            r#""2024-03-15" 1710460800"#,
        ),
        ("[65,1114112]", "implode", "\"A\u{fffd}\""),
        ("65", "ascii", "\"A\""),
    ]);
}

#[test]
fn weir_adds_three_functions_of_its_own() {
    check(&[
        ("{}", "put(.price.amount; \"9.90\")", r#"{"price":{"amount":"9.90"}}"#),
        ("{\"items\":[1]}", "put(.items[2]; .items[0])", r#"{"items":[1,null,1]}"#),
        ("{\"a\":[{},{}]}", "put(.a[].b.c; 1)", r#"{"a":[{"b":{"c":1}},{"b":{"c":1}}]}"#),
        ("\"2026-11-23T11:00:00.250+01:00\"", "version_from_time", "1795428000250"),
        ("\"today\"", "version_from_time", "not-a-time: `today` is not a time since 1970 with an offset, such as 2026-11-23T10:00:00Z"),
        ("null", "fail(\"no-price\"; \"4711 has no price\")", "no-price: 4711 has no price"),
        ("null", "try fail(\"no-price\"; \"4711\") catch .code", "\"no-price\""),
    ]);
}

#[test]
fn a_failure_has_a_name() {
    check(&[
        ("null", "error(\"no\")", "exception: no"),
        ("null", "error({a: 1})", "exception: {\"a\":1}"),
        ("null", "error(null)", "exception: the program raised an error without a message"),
        ("1", ".a", "exception: cannot index 1 with \"a\""),
        ("null", "1, error(\"second\"), 2", "exception: second"),
        ("null", "halt", "exception: the program called `halt`, which a plugin cannot"),
        ("1", "halt_error", "exception: the program called `halt`, which a plugin cannot"),
        ("null", "now", "exception: a plugin has no `now`: the same input must give the same output; take the time from the event"),
        ("null", "env.HOME", "exception: a plugin has no `env`: the same input must give the same output; use $settings"),
        ("null", "input", "exception: a plugin has no `input`: the same input must give the same output; its only input is `.`"),
        ("null", "[inputs]", "exception: a plugin has no `inputs`: the same input must give the same output; its only input is `.`"),
        ("\"1 2\"", "fromjson", "exception: \"1 2\" is not JSON: nothing is expected after the value, in line 1, column 3"),
        ("\"NaN\"", "fromjson", "exception: \"NaN\" is not JSON: a value is expected, in line 1, column 1"),
    ]);
}

#[test]
fn a_value_without_a_json_form_does_not_leave() {
    check(&[
        ("null", "{a: (1 / 0)}", "not JSON: a is Infinity"),
        ("null", "[nan]", "not JSON: [0] is NaN"),
        (
            "null",
            "{(1): 2}",
            "not JSON: it has the key 1, which is not text",
        ),
        ("\"a\"", "tobytes", "not JSON: it is bytes, not text"),
        ("null", "[255] | implode", "\"ÿ\""),
        (
            "null",
            "\"/w==\" | @base64d",
            "not JSON: it is text that is not UTF-8",
        ),
        ("null", "1e1000 + 0", "not JSON: it is Infinity"),
    ]);
}

#[test]
fn differences_from_jq() {
    check(&[
        // Updates through what is missing.
        (
            "{}",
            ".a.b = 1",
            "exception: cannot use null as iterable (array or object)",
        ),
        ("{}", ".a //= {} | .a.b = 1", r#"{"a":{"b":1}}"#),
        (
            "{}",
            ".a[0] = 1",
            "exception: cannot use null as iterable (array or object)",
        ),
        ("[1]", ".[2] = 3", "exception: index 2 out of bounds"),
        ("{}", ".a.b, .a[0].c", "null null"),
        ("{}", ".n += 1", r#"{"n":1}"#),
        // Numbers.
        (
            "12345678901234567890",
            "., . + 1",
            "12345678901234567890 12345678901234567891",
        ),
        ("9.90", "., . + 0", "9.90 9.9"),
        ("500", ". / 100, (. / 100 | tostring)", "5 \"5.0\""),
        ("1e3", ".", "1e3"),
        ("[1,2]", "try .[1.0] catch \"no\"", "\"no\""),
        ("\"007.50\"", "tonumber", "7.50"),
        ("[1, 0]", ".[0] / .[1]", "not JSON: it is Infinity"),
        // Texts.
        ("\"YWI\"", "try @base64d catch \"no\"", "\"no\""),
        (
            "\"über\"",
            "test(\"^\\\\w+$\"), test(\"ÜBER\"; \"i\")",
            "false false",
        ),
        (
            "\"x\"",
            "test(\"(?=x)\")",
            "exception: invalid regex: look-around is not supported",
        ),
        ("1", "try ltrimstr(\"a\") catch \"no\"", "\"no\""),
    ]);
    for (code, why) in [
        ("$ENV", "line 1, column 1: there is no variable `$ENV`"),
        (
            "$__loc__",
            "line 1, column 1: there is no variable `$__loc__`",
        ),
        (
            ". as [$a] ?// $a | $a",
            "line 1, column 11: `|` is expected, not `?`",
        ),
        (
            "import \"a\" as a; 1",
            "line 1, column 9: a program cannot import modules or data",
        ),
        (
            "import \"a\" as $a; $a",
            "line 1, column 1: a program cannot import modules or data",
        ),
    ] {
        assert_eq!(
            Program::compile(code, &[]).err().as_deref(),
            Some(why),
            "{code}"
        );
    }
}

#[test]
fn a_mistake_is_named_with_its_place() {
    for (code, why) in [
        (
            "",
            "line 1, column 1: a value or a function is expected, but the program ends",
        ),
        (
            "{\n  key: .id,\n  name: .nam(\n}",
            "line 3, column 13: `(` is not closed",
        ),
        (
            "{\r\n  \"ü\": foo(1)\r\n}",
            "line 2, column 8: there is no function `foo/1`",
        ),
        (".a | bar", "line 1, column 6: there is no function `bar`"),
        ("$x", "line 1, column 1: there is no variable `$x`"),
        (
            "1 +",
            "line 1, column 4: a value or a function is expected, but the program ends",
        ),
        (
            "if . then 1",
            "line 1, column 12: else or end is expected, but the program ends",
        ),
        ("\"a", "line 1, column 1: `\"` is not closed"),
        (". %% 2", "line 1, column 3: nothing is expected, not `%%`"),
        ("bar\n| $x", "line 1, column 1: there is no function `bar`"),
        ("break $a", "line 1, column 7: there is no label `$a`"),
    ] {
        assert_eq!(
            Program::compile(code, &[]).err().as_deref(),
            Some(why),
            "{code}"
        );
    }
}

/// A program is rewritten before it runs. These are the forms that the rewriting looks at.
#[test]
fn a_rewritten_program_does_the_same() {
    let many: Vec<String> = (0..60).map(|number| format!(".m{number}")).collect();
    let input: Vec<String> = (0..60)
        .map(|number| format!(r#""m{number}":{number}"#))
        .collect();
    let (many, input) = (many.join(", "), format!("{{{}}}", input.join(",")));
    let input_many = input.as_str();
    check(&[
        (input_many, &format!("[limit(20; {many})] | length"), "20"),
        (input_many, &format!("[{many}] == [range(60)]"), "true"),
        (
            r#"{"a":{"b":{"c":1}}}"#,
            ".a.b.c, .a[\"b\"].c, .\"a\".b, .a.x.y",
            r#"1 1 {"c":1} null"#,
        ),
        (
            r#"{"a":{"k":[5]},"b":"k"}"#,
            ".a[.b][0], .a.k[.a.k | length - 1], .a[\"\\u006b\"]",
            "5 5 [5]",
        ),
        (
            r#"{"a":[1,2,3],"from":1}"#,
            ".a[.from:], .a[:.from]",
            "[2,3] [1]",
        ),
        (
            r#"{"a":{"b":1}}"#,
            ". as $in | \"x\" | $in.a.b, ($in | .a).b",
            "1 1",
        ),
        (
            r#"{"a":[{"b":1},{"b":2}]}"#,
            "[.a[].b], [.a[] | .b], (.a | map(.b))",
            "[1,2] [1,2] [1,2]",
        ),
        (
            r#"{"a":{"b":1}}"#,
            "[path(.a.b)], [paths]",
            r#"[["a","b"]] [["a"],["a","b"]]"#,
        ),
        (
            r#"{"a":{"b":1},"c":2}"#,
            ".a.b = .c, (.a.b |= . + 1), (.a.b += .c), del(.a.b), (.a |= empty)",
            r#"{"a":{"b":2},"c":2} {"a":{"b":2},"c":2} {"a":{"b":3},"c":2} {"a":{},"c":2} {"c":2}"#,
        ),
        (
            r#"{"a":1}"#,
            "{a}, {\"a\"}, {a: .a}, {(\"b\"): .a}, {\"x\\(.a)\": 2}, (.a as $a | {$a})",
            r#"{"a":1} {"a":1} {"a":1} {"b":1} {"x1":2} {"a":1}"#,
        ),
        (
            r#"{"a":1}"#,
            "[.a, .b?, .a.b?, (try .a.b catch \"no\")]",
            r#"[1,null,"no"]"#,
        ),
        ("1", ".a", "exception: cannot index 1 with \"a\""),
        (
            "[1,null]",
            "map(. == null), (null as $x | [$x]), [true, false, null]",
            "[false,true] [null] [true,false,null]",
        ),
        (
            "1",
            "def null: 2; [null], (def f(true): true; f(3))",
            "[2] 3",
        ),
        ("1", "def f: .a; {a: {a: 1}} | f | f", "1"),
        (
            "{\"a\":[3,1]}",
            "reduce .a[] as $x (.a[0]; . + $x), [foreach .a[] as $x (0; . + $x; {a: .} | .a)]",
            "7 [3,4]",
        ),
        (
            "{\"a\":1}",
            "\"x\\(.a)\\(null)\", @json \"\\(.a)\", -.a, (.b // .a), (if .a then .a else .b end)",
            r#""x1null" "1" -1 1 1"#,
        ),
        ("{\"a\":1}", "label $out | .a, break $out, .b", "1"),
    ]);
}
