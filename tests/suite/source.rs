//! The source's own rules: the imports that each module may have, and names of types that are defined once.
//!
//! **Invariant:** only code counts, not comments or quoted texts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each module with its permitted imports from the crate. A module imports only from rows above its own.
const LAYERS: &[(&str, &[&str])] = &[
    ("position_set", &[]),
    ("event", &["position_set"]),
    ("text", &[]),
    ("duration_sketch", &[]),
    ("lifecycle", &[]),
    ("telemetry", &["event"]),
    ("memory", &["telemetry"]),
    ("decode", &["event", "text"]),
    ("error", &["event", "text", "telemetry", "decode"]),
    ("journal", &["event", "position_set", "telemetry"]),
    ("store", &["event", "position_set", "text", "telemetry"]),
    (
        "write",
        &[
            "event",
            "position_set",
            "lifecycle",
            "telemetry",
            "memory",
            "decode",
            "journal",
            "store",
        ],
    ),
    (
        "query",
        &[
            "event",
            "text",
            "duration_sketch",
            "telemetry",
            "memory",
            "decode",
            "error",
            "store",
        ],
    ),
    (
        "receive",
        &[
            "event",
            "text",
            "lifecycle",
            "telemetry",
            "memory",
            "decode",
            "error",
            "journal",
            "write",
        ],
    ),
    (
        "health",
        &[
            "event",
            "lifecycle",
            "telemetry",
            "journal",
            "store",
            "write",
        ],
    ),
    (
        "router",
        &[
            "event",
            "text",
            "lifecycle",
            "telemetry",
            "memory",
            "decode",
            "error",
            "journal",
            "store",
            "write",
            "query",
            "receive",
            "health",
        ],
    ),
];

/// Modules above the table: they may import everything below them, in this order.
const ROOF: [&str; 5] = ["config", "lib", "cli", "commands", "main"];

struct Source {
    /// The path below `src/`.
    path: PathBuf,
    code: String,
}

impl Source {
    fn module(&self) -> String {
        let first = self.path.iter().next().expect("a path has a first part");
        let first = first.to_str().expect("paths are UTF-8");
        first.trim_end_matches(".rs").to_owned()
    }

    /// The names from the crate's root to the module of this file.
    fn module_path(&self) -> Vec<String> {
        let path = self.path.with_extension("");
        let mut names: Vec<String> = path
            .iter()
            .map(|name| name.to_str().expect("paths are UTF-8").to_owned())
            .collect();
        if names.last().is_some_and(|name| name == "mod") {
            names.pop();
        }
        names
    }

    fn is_test(&self) -> bool {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name == Some("tests.rs")
            || self
                .path
                .iter()
                .any(|part| part == "tests" || part == "sim" || part == "sim.rs")
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut directories = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("the source is there") {
            let path = entry.expect("a directory entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).expect("it is read");
                let code = code_of(&text);
                let path = path.strip_prefix(&root).expect("below src").to_owned();
                sources.push(Source { path, code });
            }
        }
    }
    assert!(sources.len() > 100, "{} files", sources.len());
    sources
}

/// A file's text without its comments, and without texts and characters in quotes.
fn code_of(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut code = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let starts = |what: &str| {
            what.chars()
                .enumerate()
                .all(|(i, c)| rest.get(i) == Some(&c))
        };
        let length = if starts("//") {
            rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())
        } else if let Some(end) = raw_text(rest) {
            end
        } else if starts("\"") {
            let mut end = 1;
            while end < rest.len() && rest[end] != '"' {
                end += if rest[end] == '\\' { 2 } else { 1 };
            }
            end + 1
        } else if starts("'") {
            match rest {
                ['\'', '\\', _, '\'', ..] => 4,
                ['\'', _, '\'', ..] => 3,
                // A longer escape, or a lifetime.
                ['\'', '\\', ..] => rest
                    .iter()
                    .skip(1)
                    .position(|c| *c == '\'')
                    .map_or(1, |i| i + 2),
                _ => 1,
            }
        } else {
            code.push(rest[0]);
            1
        };
        at += length;
    }
    code
}

/// The length of a raw text that begins here.
fn raw_text(rest: &[char]) -> Option<usize> {
    let hashes = match rest {
        ['r', ..] => rest[1..].iter().take_while(|c| **c == '#').count(),
        _ => return None,
    };
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let mut at = 2 + hashes;
    while at < rest.len() {
        if rest[at] == '"'
            && rest[at + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes
        {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
    None
}

fn words(code: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = code;
    while let Some(begin) = rest.find(|c: char| !c.is_whitespace()) {
        rest = &rest[begin..];
        let word = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let end = if word > 0 {
            word
        } else if rest.starts_with("::") {
            2
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        words.push(&rest[..end]);
        rest = &rest[end..];
    }
    words
}

/// The modules of the crate's root that a file names by `crate::…`, grouped imports included, and by chains of `super::` that
/// leave its own module.
fn imports(source: &Source) -> BTreeSet<String> {
    let words = words(&source.code);
    let mut found = BTreeSet::new();
    let depth = source.module_path().len();
    // The depths of braces at which modules within the file begin.
    let (mut braces, mut inner) = (0, Vec::new());
    let mut at = 0;
    while at < words.len() {
        match words[at] {
            "mod" if words.get(at + 2) == Some(&"{") => inner.push(braces),
            "{" => braces += 1,
            "}" => {
                braces -= 1;
                if inner.last() == Some(&braces) {
                    inner.pop();
                }
            }
            _ => {}
        }
        if words[at] == "crate" && words.get(at + 1) == Some(&"::") {
            first_names(&words[at + 2..], &mut found);
        }
        if words[at] == "super" && at.checked_sub(1).is_none_or(|before| words[before] != "::") {
            let mut end = at;
            let mut levels = 0;
            while words.get(end) == Some(&"super") && words.get(end + 1) == Some(&"::") {
                levels += 1;
                end += 2;
            }
            if levels >= depth + inner.len() {
                first_names(&words[end..], &mut found);
            }
        }
        at += 1;
    }
    found
}

/// The first name of a path, or of each path of a group.
fn first_names(words: &[&str], found: &mut BTreeSet<String>) {
    if words.first() != Some(&"{") {
        found.extend(words.first().map(ToString::to_string));
        return;
    }
    let (mut depth, mut is_first) = (0, false);
    for word in words {
        match *word {
            "{" => {
                depth += 1;
                is_first = depth == 1;
            }
            "}" => depth -= 1,
            "," if depth == 1 => is_first = true,
            name if is_first => {
                found.insert(name.to_owned());
                is_first = false;
            }
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

/// Every module once imported most of the others, in circles through 29 files: nothing could be understood or tested alone.
#[test]
fn a_module_imports_only_what_its_layer_allows() {
    let order: Vec<&str> = LAYERS
        .iter()
        .map(|(module, _)| *module)
        .chain(ROOF)
        .collect();
    for (module, allowed) in LAYERS {
        let own = order.iter().position(|name| name == module);
        assert!(
            allowed
                .iter()
                .all(|name| order.iter().position(|other| other == name) < own),
            "the table itself has a circle at {module}"
        );
    }
    let mut wrong = Vec::new();
    for source in sources() {
        let module = source.module();
        let own = order.iter().position(|name| *name == module);
        let own = own.unwrap_or_else(|| panic!("{module} is not in the table"));
        let allowed = LAYERS.iter().find(|(name, _)| *name == module);
        for import in imports(&source) {
            let Some(other) = order.iter().position(|name| *name == import) else {
                // An item of the crate's root.
                if LAYERS.iter().any(|(name, _)| *name == module) && import != module {
                    wrong.push(format!("{}: crate::{import}", source.path.display()));
                }
                continue;
            };
            let is_allowed = allowed.map_or(other < own, |(_, allowed)| {
                allowed.contains(&import.as_str())
            });
            if import != module && !is_allowed {
                wrong.push(format!("{}: crate::{import}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Of 280 names of types 46 were defined in two files or more, `Taken` in three: a reader had to find out which was meant.
#[test]
fn a_types_name_is_defined_in_one_file() {
    let mut defined: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let code = match source.code.find("#[cfg(test)]\nmod tests {") {
            Some(tests) => &source.code[..tests],
            None => &source.code,
        };
        let words = words(code);
        // An associated type stands within a trait or an impl, indented, and is no name of the crate's.
        let associated: Vec<usize> = associated_types(&words);
        for (at, pair) in words.windows(2).enumerate() {
            let [keyword, name] = pair else { continue };
            if matches!(*keyword, "struct" | "enum" | "trait" | "type" | "union")
                && name.starts_with(char::is_uppercase)
                && !associated.contains(&at)
            {
                let files = defined.entry((*name).to_owned()).or_default();
                files.insert(source.path.display().to_string());
            }
        }
    }
    assert!(defined.len() > 200, "{} types", defined.len());
    defined.retain(|name, files| files.len() > 1 && name != "Options");
    assert!(defined.is_empty(), "{defined:#?}");
}

/// The places of `type` within braces.
fn associated_types(words: &[&str]) -> Vec<usize> {
    let mut depth = 0;
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        match *word {
            "{" => depth += 1,
            "}" => depth -= 1,
            "type" if depth > 0 => found.push(at),
            _ => {}
        }
    }
    found
}

/// Words with which a comment poses a riddle instead of naming the thing.
const QUESTIONS: [&str; 6] = ["What", "Whether", "How", "Where", "Who", "Which"];

/// Words of a private dialect, each with its plain word.
const RETIRED: [(&str, &str); 4] = [
    ("passed over", "ignored"),
    ("let go of", "recycled"),
    ("lets go of", "recycles"),
    ("the way in", "ingestion"),
];

/// Four hundred comments opened with What, Whether or How: a reader had to find out what they described.
#[test]
fn a_comment_names_what_it_describes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for source in sources() {
        let text = std::fs::read_to_string(root.join(&source.path)).expect("it is read");
        let mut is_first = true;
        for (number, line) in text.lines().enumerate() {
            let Some(comment) = line.trim_start().strip_prefix("//") else {
                is_first = true;
                continue;
            };
            let comment = comment.trim_start_matches(['/', '!']).trim_start();
            let first = comment.split_whitespace().next().unwrap_or_default();
            let retired = RETIRED.iter().find(|(word, _)| comment.contains(word));
            let place = format!("{}:{}", source.path.display(), number + 1);
            if is_first && QUESTIONS.contains(&first) {
                wrong.push(format!(
                    "{place}: begin with the noun or a verb, not with {first}"
                ));
            }
            if let Some((word, plain)) = retired {
                wrong.push(format!("{place}: instead of {word:?} write {plain:?}"));
            }
            is_first = comment.is_empty();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
