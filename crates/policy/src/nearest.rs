//! "Did you mean": the candidate nearest to a word, if one is near.

/// The nearest candidate within a third of the word's length (at least one edit).
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        // Of two as near, the one that begins alike.
        .min_by_key(|(distance, candidate)| (*distance, std::cmp::Reverse(shared(word, candidate))))
        .map(|(_, candidate)| candidate)
}

fn shared(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count()
}

/// `did you mean `x`?`, or the other advice.
pub(crate) fn advice<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    match nearest(word, candidates) {
        Some(near) => format!("did you mean `{near}`?"),
        None => otherwise(),
    }
}

/// Edits between two words, over their first 64 characters: insertions, deletions, changes, and
/// neighbours swapped (optimal string alignment), which is how people mistype.
fn distance(a: &str, b: &str) -> usize {
    let [a, b] = [a, b].map(|word| word.chars().take(64).collect::<Vec<char>>());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    let cell = |rows: &[Vec<usize>], i: usize, j: usize| {
        rows.get(i).and_then(|row| row.get(j)).copied().unwrap_or(usize::MAX / 2)
    };
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let differs = usize::from(a.get(i - 1) != b.get(j - 1));
            let mut best = (cell(&rows, i - 1, j - 1) + differs)
                .min(cell(&rows, i - 1, j) + 1)
                .min(row.last().copied().unwrap_or(j) + 1);
            let is_swap =
                i > 1 && j > 1 && a.get(i - 1) == b.get(j - 2) && a.get(i - 2) == b.get(j - 1);
            if is_swap {
                best = best.min(cell(&rows, i - 2, j - 2) + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    cell(&rows, a.len(), b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits_and_swaps() {
        for (a, b, edits) in
            [("", "", 0), ("a", "", 1), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 1)]
        {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn only_near_words_are_offered() {
        assert_eq!(nearest("acount", ["amount", "account"]), Some("account"));
        assert_eq!(nearest("zebra", ["amount", "account"]), None);
        assert_eq!(advice("x", [], || "write y".into()), "write y");
    }
}
