//! Every published figure of every official network, exactly.

use repvgg::cost::cost;
use repvgg::fuse::Fusion;
use repvgg::zoo::paper::{Figure, Stage, models, networks, stages};
use repvgg::zoo::{Specification, VARIANTS};

/// Parameters in plain and training form, then billions of multiply-adds in plain and training form and of Winograd multiplies
/// in plain form, to the three decimals that are known, at 224×224.
const FIGURES: [(&str, u64, u64, [&str; 3]); 15] = [
    ("repvgg-a0", 8_309_384, 9_108_968, ["1.361", "1.513", "0.747"]),
    ("repvgg-a1", 12_789_864, 14_092_264, ["2.364", "2.626", "1.272"]),
    ("repvgg-a2", 25_499_944, 28_210_600, ["5.117", "5.685", "2.660"]),
    ("repvgg-b0", 14_339_048, 15_817_960, ["3.058", "3.397", "1.580"]),
    ("repvgg-b1", 51_829_480, 57_415_016, ["11.815", "13.128", "5.907"]),
    ("repvgg-b1g2", 41_360_104, 45_782_376, ["8.810", "9.788", "4.571"]),
    ("repvgg-b1g4", 36_125_416, 39_966_056, ["7.307", "8.119", "3.903"]),
    ("repvgg-b2", 80_315_112, 89_022_376, ["18.377", "20.418", "9.144"]),
    ("repvgg-b2g2", 63_956_712, 70_846_376, ["13.680", "15.200", "7.057"]),
    ("repvgg-b2g4", 55_777_512, 61_758_376, ["11.332", "12.591", "6.013"]),
    ("repvgg-b3", 110_960_872, 123_085_288, ["26.209", "29.121", "12.914"]),
    ("repvgg-b3g2", 87_404_776, 96_911_848, ["19.446", "21.606", "9.909"]),
    ("repvgg-b3g4", 75_626_728, 83_825_128, ["16.064", "17.849", "8.406"]),
    ("repvgg-d2se", 120_387_572, 133_334_836, ["32.830", "36.477", "15.569"]),
    ("repvggplus-l2pse", 127_151_960, 146_062_864, ["32.836", "", ""]),
];

fn billions(count: u64) -> String {
    format!("{:.3}", count as f64 / 1e9)
}

#[test]
fn counts_of_all_official_networks() {
    assert_eq!(VARIANTS.each_ref().map(|row| row.name), FIGURES.map(|row| row.0));
    for (name, parameters, training_parameters, [macs, training_macs, winograd]) in FIGURES {
        let training = Specification::named(name).unwrap().training_graph().unwrap();
        let plain = Fusion::new(&training).into_graph();
        let (of_plain, of_training) = (cost(&plain, [224; 2]).unwrap(), cost(&training, [224; 2]).unwrap());
        assert_eq!(of_plain.parameters, parameters, "{name}: parameters");
        assert_eq!(of_training.parameters, training_parameters, "{name}: training parameters");
        assert_eq!(billions(of_plain.macs), macs, "{name}: multiply-adds");
        if !training_macs.is_empty() {
            assert_eq!(billions(of_training.macs), training_macs, "{name}: training multiply-adds");
            assert_eq!(billions(of_plain.winograd_multiplies), winograd, "{name}: Winograd multiplies");
        }
    }
}

#[test]
fn counts_at_320() {
    for (name, macs) in [("repvgg-d2se", "66.994"), ("repvggplus-l2pse", "67.001")] {
        let plain = Fusion::new(&Specification::named(name).unwrap().training_graph().unwrap()).into_graph();
        let cost = cost(&plain, [320; 2]).unwrap();
        assert_eq!(billions(cost.macs), macs, "{name}");
        if name == "repvgg-d2se" {
            assert_eq!(billions(cost.winograd_multiplies), "31.768");
        }
    }
}

/// Every figure of Tables 4 to 7 equals the count, or its row explains the difference.
#[test]
fn counts_match_the_paper_or_the_difference_is_explained() {
    let mut explained = Vec::new();
    for row in (4..=7).flat_map(networks) {
        let Some(architecture) = Specification::named(&row.name) else {
            panic!("{}, {}: the zoo has no {}", row.source, row.title, row.name);
        };
        let plain = Fusion::new(&architecture.training_graph().unwrap()).into_graph();
        let cost = cost(&plain, row.size).unwrap();
        for figure in Figure::ALL {
            let (differs, note) = (row.differs(figure, &cost), row.note(figure));
            if differs {
                assert!(note.is_some(), "{}, {}: {} {}", row.source, row.title, figure.count(&cost), figure.name());
                if let (Figure::WinogradMultiplies, Some(printed)) = (figure, row.figure(figure)) {
                    let [rule, direct] = [figure, Figure::Flops].map(|bound| bound.printed(bound.count(&cost)));
                    assert!(rule < printed && printed < direct, "{}: {rule} {printed} {direct}", row.name);
                }
                explained.push((row.name.as_str(), figure));
            } else {
                assert!(note.is_none() || row.figure(figure).is_none(), "{}: nothing to explain", row.name);
            }
        }
    }
    let multiplies = Figure::WinogradMultiplies;
    assert_eq!(
        explained,
        [
            ("regnetx-3.2gf", multiplies),
            ("resnext-101-32x4d", multiplies),
            ("regnetx-12gf", multiplies),
            ("efficientnet-b3", Figure::Parameters),
        ]
    );
}

/// Tables 2 and 3 describe the networks that the zoo builds.
#[test]
fn specifications_match_the_paper() {
    for model in models() {
        let specification = Specification::named(&model.name).unwrap();
        let spec = specification.repvgg().unwrap();
        assert_eq!(model.layers, [&[1], &spec.depths[..]].concat()[..], "{}: layers", model.name);
        assert_eq!(spec.width, [model.a, model.a, model.a, model.b], "{}: multipliers", model.name);
        let channels: Vec<usize> = stages().iter().map(|stage| stage.channels(model)).collect();
        assert_eq!(spec.stage_channels()[..], channels, "{}: channels", model.name);
        let family = |stage: &Stage| if model.title.starts_with("RepVGG-A") { stage.layers_a } else { stage.layers_b };
        assert_eq!(stages().iter().map(family).collect::<Vec<_>>(), model.layers, "{}: Table 2", model.name);
    }
}

/// Official checkpoints also contain the `num_batches_tracked` of each batch norm.
#[test]
fn parameters_are_as_numerous_as_in_official_checkpoints() {
    for (name, norms, training, plain) in [
        ("repvgg-a0", 22 * 2 + 17, 351, 46),
        ("repvgg-b0", 28 * 2 + 23, 453, 58),
        ("repvgg-d2se", 48 * 2 + 43, 985, 290),
    ] {
        let graph = Specification::named(name).unwrap().training_graph().unwrap();
        assert_eq!(graph.parameters().count() + norms, training, "{name}");
        assert_eq!(Fusion::new(&graph).graph().parameters().count(), plain, "{name}");
    }
}

#[test]
fn counts_of_cifar_networks_match_the_literature() {
    let spec = |width: [f64; 4], depths: [usize; 4]| {
        format!("depths = {depths:?}\nwidth = {width:?}\nstrides = [1, 1, 2, 2, 1]\nclasses = 10\n")
    };
    // fattorib's CIFAR-10 networks have a quarter, an eighth, … of the widths: 16a, 16a, 32a, 64a, 64b.
    let rows: [(f64, f64, [usize; 4], u64, u64); 2] =
        [(0.75, 2.5, [2, 4, 14, 1], 372_690, 418_146), (1.0, 2.5, [4, 6, 16, 1], 726_954, 814_122)];
    for (a, b, depths, parameters, training_parameters) in rows {
        let text = spec([a / 4.0, a / 4.0, a / 4.0, b / 8.0], depths);
        let training = Specification::from_toml(&text, "cifar").unwrap().training_graph().unwrap();
        assert_eq!(cost(&training, [32; 2]).unwrap().parameters, training_parameters);
        assert_eq!(cost(Fusion::new(&training).graph(), [32; 2]).unwrap().parameters, parameters);
    }
}

/// The paper's memory argument (Sect. 1): a plain chain needs an input and an output; branches hold more.
#[test]
fn branches_hold_their_input_and_a_plain_chain_does_not() {
    let training = Specification::named("repvgg-a0").unwrap().training_graph().unwrap();
    let plain = Fusion::new(&training).into_graph();
    let map = 48 * 112 * 112 * 4;
    assert_eq!(cost(&plain, [224; 2]).unwrap().peak_activation_bytes, 3 * 224 * 224 * 4 + map);
    assert!(cost(&training, [224; 2]).unwrap().peak_activation_bytes > 2 * map);
}

#[test]
fn impossible_specifications_are_refused() {
    for (text, message) in [
        ("depths = [0, 2, 2, 1]", "custom: depths: expected 1 to 256 blocks in stage 1, found 0"),
        ("groups = 5", "custom: stage1.1: expected channels divisible by 5 groups, found 48"),
        (
            "width = [0.001, 1, 1, 1]",
            "custom: width: expected 1 to 65536 channels in stage 0, found 0 (multiplier 1e-3)",
        ),
        ("width = [nan, 1, 1, 1]", "custom: width: expected 1 to 65536 channels in stage 0, found 0 (multiplier NaN)"),
        ("classes = 0", "custom: classes: expected 1 to 65536, found 0"),
        ("strides = [0, 1, 1, 1, 1]", "custom: strides: expected 1 to 8, found 0"),
    ] {
        let error = Specification::from_toml(text, "custom").unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let error = Specification::from_toml("depth = [1, 1, 1, 1]", "custom").unwrap_err().to_string();
    assert!(error.contains("unknown field `depth`"), "{error}");
    let error = Specification::from_toml("a = 1\ndepths = [1,", "custom").unwrap_err().to_string();
    assert!(error.starts_with("line 2: ") && !error.contains('\n'), "{error}");
}
