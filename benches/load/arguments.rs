//! Arguments in the form `name=value`.

use std::collections::HashMap;
use std::str::FromStr;

pub(crate) struct Arguments(HashMap<String, String>);

impl Arguments {
    pub(crate) fn read(arguments: &[String]) -> Self {
        let named = arguments.iter().map(|argument| {
            let (name, value) = argument
                .split_once('=')
                .unwrap_or_else(|| panic!("{argument} is not in the form name=value"));
            (name.to_owned(), value.to_owned())
        });
        Self(named.collect())
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.optional_text(name)
            .unwrap_or_else(|| panic!("{name}= is missing"))
    }

    pub(crate) fn optional_text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn number<T: FromStr>(&self, name: &str) -> T {
        self.optional_number(name)
            .unwrap_or_else(|| panic!("{name}= is missing"))
    }

    pub(crate) fn optional_number<T: FromStr>(&self, name: &str) -> Option<T> {
        self.optional_text(name).map(|text| {
            text.parse()
                .unwrap_or_else(|_| panic!("{name}={text} is not a number"))
        })
    }
}
