//! The order of speeds here beside the paper's.

use repvgg::measure::Speed;

/// A network with both of its speeds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Racer<'a> {
    pub(super) name: &'a str,
    /// Multiply-adds for an image, here and in the paper.
    pub(super) macs: [f64; 2],
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
    pub(super) overtakes: Vec<Overtaking<'a>>,
    /// Pairs that would change places as well, but whose rounds' speeds overlap.
    pub(super) undecided: usize,
}

/// A network that is faster here than others that are faster in the paper.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Overtaking<'a> {
    pub(super) name: &'a str,
    pub(super) overtaken: Vec<&'a str>,
    /// The rate at which its multiply-adds are done, in that of the others: the least and the greatest, here and in the
    /// paper.
    pub(super) rates: [[f64; 2]; 2],
}

impl<'a> Overtaking<'a> {
    fn of(racer: &Racer<'a>, overtaken: &[&Racer<'a>]) -> Self {
        let range = |rate: fn(&Racer<'_>) -> f64| {
            let rates = overtaken.iter().map(|other| rate(racer) / rate(other));
            rates.fold([f64::INFINITY, 0.0], |[least, most]: [f64; 2], rate| [least.min(rate), most.max(rate)])
        };
        Self {
            name: racer.name,
            overtaken: overtaken.iter().map(|other| other.name).collect(),
            rates: [
                range(|racer| racer.here.images_per_second * racer.macs[0]),
                range(|racer| racer.paper * racer.macs[1]),
            ],
        }
    }
}

impl<'a> Order<'a> {
    pub(super) fn of(racers: &[Racer<'a>]) -> Self {
        let mut order = Self { pairs: 0, overtakes: Vec::new(), undecided: 0 };
        for racer in racers {
            order.pairs += racers.iter().filter(|other| other.paper < racer.paper).count();
            let ahead = racers.iter().filter(|other| other.paper > racer.paper);
            let (overtaken, undecided): (Vec<&Racer<'a>>, Vec<&Racer<'a>>) = ahead
                .filter(|other| other.here.images_per_second < racer.here.images_per_second)
                .partition(|other| other.here.fastest_round < racer.here.slowest_round);
            order.undecided += undecided.len();
            if !overtaken.is_empty() {
                order.overtakes.push(Overtaking::of(racer, &overtaken));
            }
        }
        order
    }

    /// In a few sentences.
    pub(super) fn sentence(&self) -> String {
        let changed: usize = self.overtakes.iter().map(|overtaking| overtaking.overtaken.len()).sum();
        let kept = self.pairs - changed - self.undecided;
        let mut text = format!("Of {} pairs of networks {kept} have the paper's order of speeds here", self.pairs);
        if self.undecided > 0 {
            text += &format!(", and in {} the rounds' speeds overlap", self.undecided);
        }
        text += ".";
        if changed > 0 {
            let list_all =
                |each: fn(&Overtaking<'_>) -> String| self.overtakes.iter().map(each).collect::<Vec<_>>().join("; ");
            let who =
                list_all(|overtaking| format!("{} is faster than {}", overtaking.name, list(&overtaking.overtaken)));
            let why = list_all(|Overtaking { name, rates: [here, paper], .. }| {
                format!(
                    "{name}'s is {} of that of the networks it overtakes here, {} in the paper",
                    span(*here),
                    span(*paper)
                )
            });
            text += &format!(
                " In {changed} the order is another: {who}. What differs is the rate at which multiply-adds are done: {why}."
            );
        }
        text
    }
}

/// `0.15`, or `0.15 to 0.20`.
fn span([least, most]: [f64; 2]) -> String {
    let [least, most] = [least, most].map(|rate| format!("{rate:.2}"));
    if least == most { least } else { format!("{least} to {most}") }
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
        Racer {
            name,
            macs: [2.0; 2],
            paper,
            here: Speed { images_per_second: median, slowest_round: slowest, fastest_round: fastest },
        }
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
        let overtaking = |name, here, paper| Overtaking { name, overtaken: vec!["a"], rates: [[here; 2], [paper; 2]] };
        let overtakes = vec![overtaking("b", 4.0, 0.75), overtaking("c", 4.05, 0.5)];
        assert_eq!(order, Order { pairs: 5, overtakes, undecided: 1 });
        assert_eq!(
            order.sentence(),
            "Of 5 pairs of networks 2 have the paper's order of speeds here, and in 1 the rounds' speeds overlap. \
             In 2 the order is another: b is faster than a; c is faster than a. What differs is the rate at which \
             multiply-adds are done: b's is 4.00 of that of the networks it overtakes here, 0.75 in the paper; c's is \
             4.05 of that of the networks it overtakes here, 0.50 in the paper."
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
