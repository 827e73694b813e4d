use super::super::assembler::{call, dict, int, name, pickle, text, tuple};
use super::super::names::Name;
use super::*;

fn sentence(value: &[u8]) -> String {
    read(&pickle(value)).unwrap_err().to_string()
}

#[test]
fn functions_that_run_code_are_refused_by_name() {
    let cases = [
        ("posix", "system"),
        ("os", "system"),
        ("nt", "system"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("__builtin__", "__import__"),
        ("subprocess", "Popen"),
        ("torch", "load"),
        ("torch._utils", "_import_dotted_name"),
        ("torch.hub", "load"),
        ("numpy", "load"),
    ];
    for (module, function) in cases {
        let expected = format!(
            "pickle: expected data that a checkpoint holds, found {module}.{function}, which would run code when PyTorch loads the file"
        );
        let one = |value: Vec<u8>| assert_eq!(sentence(&value), expected);
        one([&name(module, function)[..], &tuple(&[text("rm -rf /")]), b"R"].concat());
        one(name(module, function));
        one([&text(module)[..], &text(function), b"\x93"].concat());
        one(dict(&[("weight", name(module, function))]));
    }
    let getattr = call("builtins.getattr", &[name("torch", "Size"), text("__class__")]);
    assert!(sentence(&getattr).contains("found builtins.getattr"));
    let long = sentence(&name(&format!("os.{}", "m".repeat(5000)), "\u{1b}[31m"));
    assert!(long.len() < 300, "{long}");
}

#[test]
fn numbers_in_every_encoding_are_read() {
    let cases: [(&[u8], Option<i64>); 15] = [
        (b"K\xff", Some(255)),
        (b"M\xff\xff", Some(65_535)),
        (b"J\xff\xff\xff\xff", Some(-1)),
        (b"\x8a\x00", Some(0)),
        (b"\x8a\x01\x80", Some(-128)),
        (b"\x8a\x02\xff\x00", Some(255)),
        (b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80", Some(i64::MIN)),
        (b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00", None),
        (b"\x8b\x01\x00\x00\x00\x05", Some(5)),
        (b"I-7\n", Some(-7)),
        (b"I01\n", None),
        (b"L12L\n", Some(12)),
        (b"L-9223372036854775808L\n", Some(i64::MIN)),
        (b"L9223372036854775808L\n", None),
        (b"G\x3f\xf0\x00\x00\x00\x00\x00\x00", None),
    ];
    for (value, expected) in cases {
        let bytes = pickle(value);
        let (pickle, _) = read(&bytes).unwrap();
        match (pickle.values.get(pickle.root), expected) {
            (&PickleValue::Int(found), Some(expected)) => assert_eq!(found, expected, "{value:?}"),
            (PickleValue::Plain, None) => {}
            (found, _) => panic!("{value:?}: {found:?}"),
        }
    }
    for wrong in [&b"Iseven\n"[..], b"I\n", b"I-\n", b"I--1\n", b"I1.5\n"] {
        assert!(sentence(wrong).starts_with("pickle: expected a number in decimal"), "{wrong:?}");
    }
}

#[test]
fn instructions_without_their_operands_are_refused() {
    let cases: [(&[u8], &str); 16] = [
        (b"", "expected a value on the stack, found none"),
        (b"0", "expected a value on the stack, found none"),
        (b"N(.", "expected a value on the stack, found none"),
        (b"t", "expected a mark on the stack, found none"),
        (b"1", "expected a mark on the stack, found none"),
        (b"N(N\x86", "expected the items of a tuple, found too few"),
        (b"NNs", "expected a value on the stack, found none"),
        (b"](NNu", "expected a dictionary to set in, found a list"),
        (b"}(Nu", "expected keys and values in turn, found a key without a value"),
        (b"}Na", "expected a list to add to, found a dictionary"),
        (b"N)R", "expected a name to apply, found a plain value"),
        (b"ctorch\nSize\nNR", "expected a tuple of arguments, found a plain value"),
        (b"ctorch\nSize\n)R", "expected a size of a tuple, found none"),
        (b"]Nb", "expected an object to give a state, found a list"),
        (b"h\x07", "expected a value at memo 7, found none"),
        (b"NN\x93", "expected a module and a name in text, found other values"),
    ];
    for (value, expected) in cases {
        assert_eq!(sentence(value), format!("pickle: {expected}"), "{value:?}");
    }
    assert_eq!(sentence(b"\x82\x01"), "pickle: expected an instruction, found the byte 0x82");
    assert_eq!(sentence(b"\x97"), "pickle: expected an instruction, found the byte 0x97");
    assert!(sentence(b"Vtext\n").starts_with("pickle: expected protocol 1 to 5, found protocol 0"));
    assert_eq!(sentence(b"\x80\x06"), "pickle: expected protocol 1 to 5, found 6");
}

#[test]
fn a_length_beyond_the_end_allocates_nothing() {
    for value in [
        &b"X\xff\xff\xff\xff"[..],
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"B\xff\xff\xff\x7f",
        b"\x8b\xff\xff\xff\xff",
    ] {
        assert!(sentence(value).ends_with("the file is cut short"), "{value:?}");
    }
}

/// Each list holds the previous one ten times: 10³⁰ items if they were copied.
#[test]
fn a_billion_laughs_are_a_few_values() {
    let mut value = b"]q\x00".to_vec();
    for level in 0..30 {
        value.extend([b"](", &[b'h', level].repeat(10)[..], b"eq", &[level + 1]].concat());
    }
    let bytes = pickle(&value);
    let (pickle, rest) = read(&bytes).unwrap();
    assert!(rest.is_empty());
    assert!(pickle.values.len() < 100);
}

#[test]
fn copies_of_a_large_dictionary_are_limited() {
    let pair = [b"(", &int(1)[..], b"N", b"l"].concat();
    let many = [b"](", &pair.repeat(10_000)[..], b"e\x85q\x000"].concat();
    let copies = b"ccollections\nOrderedDict\nh\x00R0".repeat(1000);
    let error = sentence(&[many, copies].concat());
    assert_eq!(error, "pickle: expected at most 4194304 values, found more");
}

#[test]
fn values_and_instructions_are_limited() {
    assert_eq!(sentence(&vec![b']'; VALUE_LIMIT + 1]), "pickle: expected at most 4194304 values, found more");
    assert_eq!(sentence(&vec![b'('; VALUE_LIMIT + 1]), "pickle: expected at most 4194304 values, found more");
    assert_eq!(
        sentence(&vec![b'N'; INSTRUCTION_LIMIT + 1]),
        "pickle: expected at most 16777216 instructions, found more"
    );
}

#[test]
fn cyclic_and_deeply_nested_values_are_read() {
    let bytes = pickle(b"]q\x00h\x00a");
    let (cycle, _) = read(&bytes).unwrap();
    assert_eq!(cycle.values.parts(cycle.root), [cycle.root]);
    let deep = pickle(&[&b"]".repeat(100_000)[..], &b"a".repeat(99_999)].concat());
    assert_eq!(read(&deep).unwrap().0.values.len(), 100_002);
    let tuples = pickle(&[&b"N"[..], &b"\x85".repeat(100_000)].concat());
    assert!(read(&tuples).is_ok());
}

#[test]
fn data_of_ordinary_checkpoints_is_opaque() {
    let namespace = [&name("argparse", "Namespace")[..], b")\x81", &dict(&[("lr", int(1))]), b"b"].concat();
    let values = [
        namespace,
        call("collections.Counter", &[dict(&[("a", int(1))])]),
        [&call("collections.deque", &[b")".to_vec()])[..], &int(1), b"a"].concat(),
        call("numpy._core.multiarray.scalar", &[call("numpy.dtype", &[text("f8")]), b"C\x08\0\0\0\0\0\0\0\0".to_vec()]),
        call("__builtin__.set", &[b"]".to_vec()]),
        b"\x8f(K\x01\x90".to_vec(),
        b"(K\x01\x91".to_vec(),
        call("builtins.getattr", &[name("mmengine.logging.history_buffer", "HistoryBuffer"), text("mean")]),
        [&name("uuid", "UUID")[..], b")}\x92"].concat(),
    ];
    for value in values {
        let bytes = pickle(&value);
        let (pickle, _) = read(&bytes).unwrap();
        let is_opaque = match pickle.values.get(pickle.root) {
            PickleValue::Object { maker, .. } => matches!(maker, Name::Opaque { .. } | Name::Attribute),
            other => matches!(other, PickleValue::Opaque(_)),
        };
        assert!(is_opaque, "{:?}", pickle.values.get(pickle.root));
    }
}
