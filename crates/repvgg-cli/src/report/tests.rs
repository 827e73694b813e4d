use repvgg::check::RegionReport;

use super::*;

fn region(name: &str, error: f64) -> RegionReport {
    RegionReport {
        name: name.to_owned(),
        nodes: 6,
        error,
        absolute_error: 3.2e-8,
        largest_weight: 1.25,
        largest_gain: 12.5,
    }
}

fn check(regions: Vec<RegionReport>) -> FusionReport {
    FusionReport { regions, network_error: 2.4e-7, rounding: 1.1e-7, network_input: [2, 3, 32, 32] }
}

/// A report on `fusion` in which every other text is `text`.
fn report_of(fusion: &FusionReport, text: &str) -> String {
    let texts = [text.to_owned(), "second".to_owned()];
    DemoReport {
        title: text,
        environment: &texts,
        data: DataSummary { classes: &texts, training_images: 8000, validation_images: 1000 },
        architecture: &texts,
        training: TrainingSummary {
            epochs: 12,
            seconds: 83.0,
            images_per_second: 1234.5,
            curves_svg: "<svg viewBox=\"0 0 1 1\"><path d=\"M0 0\"/></svg>\n",
        },
        fusion,
        top1: Forms { training: 0.9875, fused: 0.9875 },
        images_per_second: Forms { training: 1000.0, fused: 2500.0 },
        batch: 32,
        parameters: Forms { training: 1_234_567, fused: 1_200_000 },
        contact_sheet_png: b"\x89PNG",
        next_steps: &[NextStep { purpose: text, line: text }],
    }
    .html()
}

fn assert_balanced(page: &str) {
    const VOID: [&str; 4] = ["!DOCTYPE", "meta", "img", "br"];
    let mut open = Vec::new();
    for piece in page.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').expect("every tag ends");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().expect("every tag has a name");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn the_page_is_well_formed_and_self_contained() {
    let fusion = check(vec![region("stage1.0", 0.31), region("stage2.0", 0.42)]);
    let page = report_of(&fusion, "shapes");
    assert_balanced(&page);
    for external in ["http:", "https:", "url(", "@import", "<script", "<link", " src=\"/", " href="] {
        assert!(!page.contains(external), "{external}");
    }
    assert!(page.contains("src=\"data:image/png;base64,iVBORw==\""));
}

#[test]
fn the_page_shows_all_numbers() {
    let page = report_of(&check(vec![region("stage1.0", 0.31)]), "shapes");
    for number in ["98.75 %", "the same before and after", "2.50 ×", "1,200,000", "2.4 × 10<sup>−7</sup>"] {
        assert!(page.contains(number), "{number}");
    }
    assert!(page.contains("<td>0.310</td>"), "{page}");
    for fact in ["8,000 for training", "1 min 23 s", "1,235 images/s", "width:40.0%", "batches of 32 images"] {
        assert!(page.contains(fact), "{fact}");
    }
    assert!(page.contains("Every fused block computes the same function as its branches"));
}

#[test]
fn texts_are_escaped_everywhere() {
    let hostile = "</section><script>alert('x')</script>&\"";
    let page = report_of(&check(vec![region(hostile, 2.0)]), hostile);
    assert_balanced(&page);
    assert!(!page.contains("<script") && !page.contains("'x'"));
    // Title and heading, class, network, environment, both parts of the next_step, the table's row, and the verdict.
    assert_eq!(page.matches("&#60;script&#62;alert(&#39;x&#39;)&#60;/script&#62;&#38;&#34;").count(), 9);
}

#[test]
fn a_violated_bound_is_reported() {
    let page = report_of(&check(vec![region("stage1.0", 0.5), region("stage1.1", f64::NAN)]), "shapes");
    assert!(page.contains("Not accepted: stage1.1: "), "{page}");
    assert_eq!(page.matches("<td class=\"over\">").count(), 1);
}

#[test]
fn a_page_without_measurements_is_well_formed() {
    let nan = Forms { training: f64::NAN, fused: f64::NAN };
    let page = DemoReport {
        title: "",
        environment: &[],
        data: DataSummary { classes: &[], training_images: 0, validation_images: 0 },
        architecture: &[],
        training: TrainingSummary { epochs: 0, seconds: f64::NAN, images_per_second: f64::INFINITY, curves_svg: "" },
        fusion: &check(Vec::new()),
        top1: nan,
        images_per_second: Forms { training: 0.0, fused: 0.0 },
        batch: 0,
        parameters: Forms { training: 0, fused: 0 },
        contact_sheet_png: &[],
        next_steps: &[],
    }
    .html();
    assert_balanced(&page);
    assert!(!page.contains("NaN") && !page.contains("inf ") && !page.contains("<img"), "{page}");
}

#[test]
fn a_long_list_of_classes_is_shortened() {
    let classes: Vec<String> = (0..1000).map(|class| format!("class {class}")).collect();
    let fusion = check(Vec::new());
    let page = DemoReport {
        title: "many",
        environment: &[],
        data: DataSummary { classes: &classes, training_images: 1, validation_images: 1 },
        architecture: &[],
        training: TrainingSummary { epochs: 1, seconds: 1.0, images_per_second: 1.0, curves_svg: "" },
        fusion: &fusion,
        top1: Forms { training: 0.5, fused: 0.25 },
        images_per_second: Forms { training: 2.0, fused: 1.0 },
        batch: 1,
        parameters: Forms { training: 2, fused: 1 },
        contact_sheet_png: &[],
        next_steps: &[],
    }
    .html();
    assert!(page.contains("1000: class 0, ") && page.contains("class 39 and 960 more"), "{page}");
    assert!(page.contains("25.00 %") && page.contains("after fusion, 50.00 % before it"));
}
