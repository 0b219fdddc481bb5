//! A page of the documentation, and the marked blocks that it shows: a mark stands behind the language in a block's
//! first line, as in ```` ```sh run:redis-cli ````.

use coupon_tests::artifact;
use std::fs;

/// A page, as text.
pub struct Page {
    file: &'static str,
    text: String,
}

impl Page {
    /// Reads it.
    pub fn open(file: &'static str) -> Self {
        Self { file, text: fs::read_to_string(artifact::workspace().join(file)).expect(file) }
    }

    /// The names behind a kind of mark, in the page's order.
    pub fn names(&self, kind: &str) -> Vec<&str> {
        self.text.lines().filter_map(|line| line.strip_prefix("```")?.split_once(kind)).map(|(_, name)| name).collect()
    }

    /// The text of the one block with this mark.
    pub fn block(&self, kind: &str, name: &str) -> String {
        let mark = format!("{kind}{name}");
        let mut marked = self.text.split("\n```").filter_map(|block| {
            let (head, text) = block.split_once('\n')?;
            head.ends_with(&mark).then_some(text)
        });
        let found = marked.next().unwrap_or_else(|| panic!("{} shows no block with{mark}", self.file));
        assert!(marked.next().is_none(), "{} shows two blocks with{mark}", self.file);
        format!("{found}\n")
    }
}
