//! Reads a `/metrics` page.

use std::collections::BTreeMap;

/// The series of one scrape, by their text before the value.
#[derive(Clone, Debug)]
pub struct Page(BTreeMap<String, f64>);

impl Page {
    pub fn parse(text: &str) -> Self {
        let series = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').expect("a series and its value");
                (series.to_owned(), value.parse().expect("a number"))
            });
        Self(series.collect())
    }

    /// The series of that name, by their labels.
    pub fn series(&self, name: &str) -> BTreeMap<String, f64> {
        let of_name = self.0.iter().filter_map(|(series, value)| {
            let (known, labels) = series.strip_suffix('}')?.split_once('{')?;
            (known == name).then(|| (labels.to_owned(), *value))
        });
        of_name.collect()
    }

    /// All series of that name together.
    pub fn sum(&self, name: &str) -> f64 {
        self.sum_where(name, "")
    }

    /// The series of that name whose labels contain `label`, as `outcome="accepted"`.
    pub fn sum_where(&self, name: &str, label: &str) -> f64 {
        let series = self
            .0
            .iter()
            .filter(|(series, _)| series.split('{').next() == Some(name))
            .filter(|(series, _)| series.contains(label));
        let mut found = 0;
        let sum = series
            .inspect(|_| found += 1)
            .map(|(_, value)| value)
            .sum::<f64>();
        assert!(found > 0, "no series {name} {label}");
        sum
    }

    /// Backlog at start + accepted = stored + dead-lettered + backlog, in events, over the life of the process.
    pub fn assert_balance(&self) {
        let start = self.sum("ruvvector_backlog_at_start_events");
        let accepted = self.sum_where("ruvvector_receive_events_total", r#"outcome="accepted""#);
        let stored = self.sum("ruvvector_write_events_total");
        let dead = self.sum("ruvvector_dead_letters_total");
        let backlog = self.sum("ruvvector_queue_events");
        assert!(
            (start + accepted - stored - dead - backlog).abs() < 0.5,
            "{start} at the start + {accepted} accepted != {stored} stored + {dead} dead + {backlog} waiting"
        );
    }
}
