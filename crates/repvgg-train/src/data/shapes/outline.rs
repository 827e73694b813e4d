//! The figures as closed polygons in the unit disc.

use std::f32::consts::{PI, TAU};

pub(super) type Point = [f32; 2];

/// The contours of a figure, filled by the even-odd rule.
type Figure = Vec<Vec<Point>>;
type Outline = fn() -> Figure;

/// The name and the figure of each class.
pub(super) const CLASSES: [(&str, Outline); 12] = [
    ("arrow", arrow),
    ("bolt", bolt),
    ("crescent", crescent),
    ("cross", cross),
    ("disc", disc),
    ("heart", heart),
    ("hexagon", hexagon),
    ("ring", ring),
    ("spiral", spiral),
    ("square", square),
    ("star", star),
    ("triangle", triangle),
];

fn arrow() -> Figure {
    let half = [[1.0, 0.0], [0.2, 0.75], [0.2, 0.3], [-0.95, 0.3]];
    vec![mirrored(&half)]
}

fn bolt() -> Figure {
    vec![vec![[0.0, -0.95], [-0.65, 0.2], [-0.1, 0.2], [-0.25, 0.95], [0.65, -0.3], [0.05, -0.3], [0.4, -0.9]]]
}

fn crescent() -> Figure {
    let (outer, inner) = (arc(1.0, 0.25 * PI, 1.75 * PI), arc(0.78, 1.72 * PI, 0.28 * PI));
    let inner = inner.into_iter().map(|[x, y]| [x + 0.2, y]);
    vec![outer.into_iter().chain(inner).collect()]
}

fn cross() -> Figure {
    let (long, wide) = (0.95, 0.3);
    let corners = |k: usize| {
        let (sine, cosine) = (k as f32 * PI / 2.0).sin_cos();
        [[wide, wide], [wide, long], [-wide, long]].map(|[x, y]| [cosine * x - sine * y, sine * x + cosine * y])
    };
    vec![(0..4).flat_map(corners).collect()]
}

fn disc() -> Figure {
    vec![arc(0.85, 0.0, TAU)]
}

fn heart() -> Figure {
    let point = |angle: f32| {
        let x = angle.sin().powi(3);
        let y =
            (13.0 * angle.cos() - 5.0 * (2.0 * angle).cos() - 2.0 * (3.0 * angle).cos() - (4.0 * angle).cos()) / 16.0;
        [0.9 * x, -0.9 * (y + 0.1)]
    };
    vec![turns(48).map(point).collect()]
}

fn hexagon() -> Figure {
    vec![turns(6).map(|angle| polar(0.95, angle)).collect()]
}

fn ring() -> Figure {
    vec![arc(0.95, 0.0, TAU), arc(0.55, 0.0, TAU)]
}

/// A band of constant width along an Archimedean spiral of nearly two turns.
fn spiral() -> Figure {
    let edge =
        |radius: f32| (0..=56).map(move |k| k as f32 / 56.0).map(move |t| polar(radius + 0.78 * t, 3.6 * PI * t));
    let outer = edge(0.2);
    let inner: Vec<Point> = edge(0.0).collect();
    vec![outer.chain(inner.into_iter().rev()).collect()]
}

fn square() -> Figure {
    vec![turns(4).map(|angle| polar(1.0, angle)).collect()]
}

fn star() -> Figure {
    vec![turns(10).enumerate().map(|(k, angle)| polar([1.0, 0.42][k % 2], angle)).collect()]
}

fn triangle() -> Figure {
    vec![turns(3).map(|angle| polar(1.0, angle)).collect()]
}

fn polar(radius: f32, angle: f32) -> Point {
    [radius * angle.cos(), radius * angle.sin()]
}

/// The angles that divide a full turn into `count` equal parts.
fn turns(count: usize) -> impl Iterator<Item = f32> {
    (0..count).map(move |k| k as f32 * TAU / count as f32)
}

/// Points on a circular arc around the origin.
fn arc(radius: f32, from: f32, to: f32) -> Vec<Point> {
    (0..=40).map(|k| polar(radius, from + (to - from) * k as f32 / 40.0)).collect()
}

/// A contour and its mirror image below the x-axis.
fn mirrored(half: &[Point]) -> Vec<Point> {
    let below = half.iter().rev().map(|&[x, y]| [x, -y]);
    half.iter().copied().chain(below).collect()
}
