//! The order of speeds here beside the paper's.

use crate::measure::Speed;

/// A network with both of its speeds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Racer<'a> {
    pub(super) name: &'a str,
    /// The paper's, in images per second.
    pub(super) paper: f64,
    /// The one that was measured here.
    pub(super) here: Speed,
}

/// What changes when networks are ordered by their speed here.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order<'a> {
    /// Pairs of networks whose speeds in the paper differ.
    pub(super) pairs: usize,
    /// For each network that is faster here than others that are faster in the paper, itself and those others.
    pub(super) overtakes: Vec<(&'a str, Vec<&'a str>)>,
    /// Pairs that would change places as well, but whose rounds' speeds overlap.
    pub(super) undecided: usize,
}

impl<'a> Order<'a> {
    pub(super) fn of(racers: &[Racer<'a>]) -> Self {
        let mut order = Self { pairs: 0, overtakes: Vec::new(), undecided: 0 };
        for racer in racers {
            order.pairs += racers.iter().filter(|other| other.paper < racer.paper).count();
            let ahead = racers.iter().filter(|other| other.paper > racer.paper);
            let (overtaken, undecided): (Vec<&Racer<'a>>, Vec<&Racer<'a>>) = ahead
                .filter(|other| other.here.images_per_second < racer.here.images_per_second)
                .partition(|other| other.here.range[1] < racer.here.range[0]);
            order.undecided += undecided.len();
            if !overtaken.is_empty() {
                order.overtakes.push((racer.name, overtaken.into_iter().map(|other| other.name).collect()));
            }
        }
        order
    }

    /// In a sentence or two.
    pub(super) fn sentence(&self) -> String {
        let changed: usize = self.overtakes.iter().map(|(_, overtaken)| overtaken.len()).sum();
        let kept = self.pairs - changed - self.undecided;
        let mut text = format!("Of {} pairs of networks {kept} have the paper's order of speeds here", self.pairs);
        if self.undecided > 0 {
            text += &format!(", and in {} the rounds' speeds overlap", self.undecided);
        }
        text += ".";
        if changed > 0 {
            let each =
                self.overtakes.iter().map(|(name, overtaken)| format!("{name} is faster than {}", list(overtaken)));
            text += &format!(" In {changed} the order is another: {}.", each.collect::<Vec<_>>().join("; "));
        }
        text
    }
}

/// `a`, `a and b`, `a, b and c`.
fn list(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// The place of each speed among all, the fastest first; equal speeds share one.
pub(super) fn ranks(speeds: &[f64]) -> Vec<usize> {
    speeds.iter().map(|speed| 1 + speeds.iter().filter(|other| *other > speed).count()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn racer(name: &str, paper: f64, here: [f64; 3]) -> Racer<'_> {
        let [slowest, median, fastest] = here;
        Racer { name, paper, here: Speed { images_per_second: median, range: [slowest, fastest], size: [224; 2] } }
    }

    #[test]
    fn pairs_that_change_places_are_told_apart_from_those_that_may() {
        let racers = [
            racer("a", 400.0, [9.0, 10.0, 11.0]),
            racer("b", 300.0, [39.0, 40.0, 41.0]),
            racer("c", 200.0, [30.0, 40.5, 50.0]),
            racer("d", 200.0, [1.0, 2.0, 3.0]),
        ];
        let order = Order::of(&racers);
        assert_eq!(order, Order { pairs: 5, overtakes: vec![("b", vec!["a"]), ("c", vec!["a"])], undecided: 1 });
        assert_eq!(
            order.sentence(),
            "Of 5 pairs of networks 2 have the paper's order of speeds here, and in 1 the rounds' speeds overlap. \
             In 2 the order is another: b is faster than a; c is faster than a."
        );
    }

    #[test]
    fn the_same_order_is_said_in_short() {
        let order = Order::of(&[racer("a", 2.0, [7.0, 8.0, 9.0]), racer("b", 1.0, [6.0, 6.5, 6.9])]);
        assert_eq!(order.sentence(), "Of 1 pairs of networks 1 have the paper's order of speeds here.");
    }

    #[test]
    fn equal_speeds_share_a_rank() {
        assert_eq!(ranks(&[5.0, 7.0, 5.0, 1.0]), [2, 1, 2, 4]);
    }

    #[test]
    fn names_are_listed_as_in_speech() {
        assert_eq!([list(&["a"]), list(&["a", "b"]), list(&["a", "b", "c"])], ["a", "a and b", "a, b and c"]);
    }
}
