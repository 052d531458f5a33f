//! Slugs: a title as a path segment of lower-case ASCII letters, digits and single dashes.

/// The longest slug before what makes it distinct, in bytes; the column holds more.
const MAX_PLAIN: usize = 200;
/// Segments that are calls of their own beside `/articles/{slug}`.
const RESERVED: [&str; 1] = ["feed"];
/// Stands for a title without a letter or digit of ASCII.
const NAMELESS: &str = "article";

/// The title's slug. Titles that are alike have the same.
pub(super) fn plain(title: &str) -> String {
    let mut slug = String::with_capacity(title.len().min(MAX_PLAIN));
    for word in title
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.push_str(&word.to_ascii_lowercase());
    }
    slug.truncate(MAX_PLAIN);
    let slug = slug.trim_end_matches('-');
    match slug {
        "" => NAMELESS.to_owned(),
        reserved if RESERVED.contains(&reserved) => format!("{reserved}-{NAMELESS}"),
        slug => slug.to_owned(),
    }
}

/// The title's slug with an end that no other has, in all likelihood (one of 2^32).
pub(super) fn distinct(title: &str) -> String {
    format!("{}-{:08x}", plain(title), rand::random::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_become_path_segments() {
        for (title, slug) in [
            ("How to train your dragon", "how-to-train-your-dragon"),
            ("  C++ & Rust: 2 languages! ", "c-rust-2-languages"),
            ("Übung macht den Meister", "bung-macht-den-meister"),
            ("日本語", "article"),
            ("Feed", "feed-article"),
            ("../../etc/passwd", "etc-passwd"),
        ] {
            assert_eq!(plain(title), slug, "{title}");
        }
    }

    #[test]
    fn a_slug_fits_its_column() {
        let long = "x ".repeat(300);
        assert!(plain(&long).len() <= MAX_PLAIN);
        assert!(!plain(&long).ends_with('-'));
        assert!(distinct(&long).len() <= 255);
    }

    #[test]
    fn distinct_slugs_differ() {
        assert_ne!(distinct("a"), distinct("a"));
        assert!(distinct("a").starts_with("a-"));
    }
}
