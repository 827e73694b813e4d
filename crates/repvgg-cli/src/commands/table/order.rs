//! Comparison of the order of measured speeds with the paper's.

use repvgg::measure::Speed;

/// A network with its measured and its published speed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Racer<'a> {
    pub(super) name: &'a str,
    /// Multiply-adds for an image, here and in the paper.
    pub(super) macs: [f64; 2],
    /// The paper's speed, in images per second.
    pub(super) paper: f64,
    /// The measured speed.
    pub(super) here: Speed,
}

/// The differences between the order of measured speeds and the paper's.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order<'a> {
    /// Pairs of networks with different speeds in the paper.
    pub(super) pairs: usize,
    pub(super) overtakes: Vec<Overtaking<'a>>,
    /// Pairs whose order differs from the paper's, but whose rounds overlap in speed.
    pub(super) undecided: usize,
}

/// A network that is faster here than others that are faster in the paper.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Overtaking<'a> {
    pub(super) name: &'a str,
    pub(super) overtaken: Vec<&'a str>,
    /// Its multiply-adds per second relative to those of the overtaken networks: minimum and maximum, here and in the paper.
    pub(super) rates: [[f64; 2]; 2],
}

impl<'a> Overtaking<'a> {
    fn of(racer: &Racer<'a>, overtaken: &[&Racer<'a>]) -> Self {
        let range = |rate: fn(&Racer<'_>) -> f64| {
            let rates = overtaken.iter().map(|other| rate(racer) / rate(other));
            rates.fold([f64::INFINITY, 0.0], |[low, high]: [f64; 2], rate| [low.min(rate), high.max(rate)])
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

    /// The remark below a table, in a few sentences.
    pub(super) fn remark(&self) -> String {
        let changed: usize = self.overtakes.iter().map(|overtaking| overtaking.overtaken.len()).sum();
        let same = self.pairs - changed - self.undecided;
        let mut text =
            format!("Of {} pairs of networks, {same} have the same order of speeds as in the paper", self.pairs);
        if self.undecided > 0 {
            text += &format!(", and {} are undecided because their rounds overlap in speed", self.undecided);
        }
        text += ".";
        if changed > 0 {
            let list_all =
                |each: fn(&Overtaking<'_>) -> String| self.overtakes.iter().map(each).collect::<Vec<_>>().join("; ");
            let who =
                list_all(|overtaking| format!("{} is faster than {}", overtaking.name, list(&overtaking.overtaken)));
            let why = list_all(|Overtaking { name, rates: [here, paper], .. }| {
                format!(
                    "that of {name} is {} times that of the networks it overtakes here, and {} times in the paper",
                    span(*here),
                    span(*paper)
                )
            });
            text += &format!(" {changed} change places: {who}. The reason is the rate of multiply-adds: {why}.");
        }
        text
    }
}

/// `0.15`, or `0.15 to 0.20`.
fn span(rates: [f64; 2]) -> String {
    let [low, high] = rates.map(|rate| format!("{rate:.2}"));
    if low == high { low } else { format!("{low} to {high}") }
}

/// `a`, `a and b`, `a, b and c`.
fn list(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// The rank of each speed, starting at 1 for the fastest. Equal speeds share a rank.
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
    fn pairs_whose_rounds_overlap_are_undecided() {
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
            order.remark(),
            "Of 5 pairs of networks, 2 have the same order of speeds as in the paper, and 1 are undecided because their \
             rounds overlap in speed. 2 change places: b is faster than a; c is faster than a. The reason is the rate of \
             multiply-adds: that of b is 4.00 times that of the networks it overtakes here, and 0.75 times in the paper; \
             that of c is 4.05 times that of the networks it overtakes here, and 0.50 times in the paper."
        );
    }

    #[test]
    fn the_remark_on_the_same_order_is_short() {
        let order = Order::of(&[racer("a", 2.0, [7.0, 8.0, 9.0]), racer("b", 1.0, [6.0, 6.5, 6.9])]);
        assert_eq!(order.remark(), "Of 1 pairs of networks, 1 have the same order of speeds as in the paper.");
    }

    #[test]
    fn equal_speeds_share_a_rank() {
        assert_eq!(ranks(&[5.0, 7.0, 5.0, 1.0]), [2, 1, 2, 4]);
    }

    #[test]
    fn names_are_joined_with_commas_and_and() {
        assert_eq!([list(&["a"]), list(&["a", "b"]), list(&["a", "b", "c"])], ["a", "a and b", "a, b and c"]);
    }
}
