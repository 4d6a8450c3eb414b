//! The table at the end of a run of all tests.

use std::fmt::Write as _;

use crate::machine::Job;
use crate::verdict::Verdict;

/// One row for each test, one column for each pair of Xen and way of booting. `verdicts` belong to `jobs`, in order.
pub(crate) fn table(jobs: &[Job], verdicts: &[Verdict]) -> String {
    let column_of = |job: &Job| format!("{} {}", job.xen.label, job.boot.name());
    let cells: Vec<(&str, String, Verdict)> = jobs
        .iter()
        .zip(verdicts)
        .map(|(job, verdict)| (job.test.name.as_str(), column_of(job), *verdict))
        .collect();
    render(&cells)
}

/// The table of `(row, column, verdict)`: rows in their order, columns by name.
fn render(cells: &[(&str, String, Verdict)]) -> String {
    let mut columns: Vec<&str> = cells.iter().map(|(_, column, _)| column.as_str()).collect();
    columns.sort_unstable();
    columns.dedup();
    let mut rows: Vec<&str> = cells.iter().map(|(row, _, _)| *row).collect();
    rows.dedup();
    let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let mut text = format!("{:width$}", "");
    for column in &columns {
        let _ = write!(text, "  {column:12}");
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    for row in rows {
        let mut line = format!("{row:width$}");
        for column in &columns {
            let cell = cells.iter().find(|cell| cell.0 == row && cell.1 == *column);
            let word = cell.map_or_else(|| "-".to_owned(), |cell| cell.2.to_string());
            let _ = write!(line, "  {word:12}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `N passed, N failed, N skipped`.
pub(crate) fn sum(verdicts: &[Verdict]) -> String {
    let count = |wanted: fn(Verdict) -> bool| verdicts.iter().filter(|verdict| wanted(**verdict)).count();
    let passed = count(|verdict| verdict == Verdict::Success);
    let skipped = count(|verdict| verdict == Verdict::Skip);
    let failed = count(|verdict| verdict > Verdict::Skip);
    format!("{passed} passed, {failed} failed, {skipped} skipped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_cell_for_every_boot() {
        let cells = [
            ("hello", "4.14 direct".to_owned(), Verdict::Success),
            ("hello", "4.17 direct".to_owned(), Verdict::Failure),
            ("memorywalk", "4.17 direct".to_owned(), Verdict::Skip),
        ];
        let expected = "            4.14 direct   4.17 direct\n\
                        hello       SUCCESS       FAILURE\n\
                        memorywalk  -             SKIP\n";
        assert_eq!(render(&cells), expected);
    }

    #[test]
    fn the_sum_counts_everything_severer_than_a_skip_as_failed() {
        let verdicts = [Verdict::Success, Verdict::Skip, Verdict::Error, Verdict::Timeout];
        assert_eq!(sum(&verdicts), "1 passed, 2 failed, 1 skipped");
    }
}
