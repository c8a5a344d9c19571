//! The fields of a request that its answer depends on, gathered in one pass over its head.
//!
//! A look-up by name is such a pass too; there are a dozen names to ask for, and most requests have few of them.

use crate::conditional::Preconditions;
use crate::encoding::Accepted;

/// A field whose lines, where there are several, are one list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum List {
    AcceptEncoding,
    Accept,
    SecFetchMode,
    WantReprDigest,
    WantUnencodedDigest,
}

/// How many of those there are.
const LISTS: usize = List::WantUnencodedDigest as usize + 1;

/// What the head of a request says.
#[derive(Debug, Default)]
pub(crate) struct Fields<'r> {
    /// The first two lines of Host: a second one is a mistake, and so is a third.
    pub(crate) hosts: [Option<&'r [u8]>; 2],
    pub(crate) preconditions: Preconditions<'r>,
    range: Once<'r>,
    /// The first line of each list.
    lists: [Option<&'r [u8]>; LISTS],
    /// The lines behind those, in their order. Mostly there is none.
    more: Vec<(List, &'r [u8])>,
    pub(crate) has_transfer_encoding: bool,
    /// Whether there is an Authorization or a Cookie.
    pub(crate) has_credentials: bool,
}

impl<'r> Fields<'r> {
    /// Reads all of a head: names in small letters, and their values.
    pub(crate) fn of(lines: impl IntoIterator<Item = (&'r [u8], &'r [u8])>) -> Self {
        let mut fields = Self::default();
        let (mut if_modified_since, mut if_unmodified_since) = (Once::default(), Once::default());
        let mut if_range = Once::default();
        for (name, value) in lines {
            match name {
                b"host" => {
                    let free = usize::from(fields.hosts[0].is_some());
                    fields.hosts[free] = Some(value);
                }
                b"if-match" => fields.preconditions.if_match.push(value),
                b"if-none-match" => fields.preconditions.if_none_match.push(value),
                b"if-modified-since" => if_modified_since.add(value),
                b"if-unmodified-since" => if_unmodified_since.add(value),
                b"if-range" => if_range.add(value),
                b"range" => fields.range.add(value),
                b"accept-encoding" => fields.add(List::AcceptEncoding, value),
                b"accept" => fields.add(List::Accept, value),
                b"sec-fetch-mode" => fields.add(List::SecFetchMode, value),
                b"want-repr-digest" => fields.add(List::WantReprDigest, value),
                b"want-unencoded-digest" => fields.add(List::WantUnencodedDigest, value),
                b"transfer-encoding" => fields.has_transfer_encoding = true,
                b"authorization" | b"cookie" => fields.has_credentials = true,
                _ => {}
            }
        }
        // A date that came several times says nothing; If-Range then matches nothing.
        fields.preconditions.if_modified_since = if_modified_since.only();
        fields.preconditions.if_unmodified_since = if_unmodified_since.only();
        fields.preconditions.if_range = if_range.any().then(|| if_range.only().unwrap_or_default());
        fields
    }

    /// The value of Range, where it came once.
    pub(crate) fn range(&self) -> Option<&'r [u8]> {
        self.range.only()
    }

    /// The lines of a list, in their order.
    pub(crate) fn lines(&self, list: List) -> impl Iterator<Item = &'r [u8]> {
        let more = self.more.iter().filter(move |(of, _)| *of == list).map(|(_, line)| *line);
        self.lists[list as usize].into_iter().chain(more)
    }

    fn add(&mut self, list: List, line: &'r [u8]) {
        match &mut self.lists[list as usize] {
            Some(_) => self.more.push((list, line)),
            first => *first = Some(line),
        }
    }

    /// Whether there is a wish for digests.
    pub(crate) fn wants_digests(&self) -> bool {
        [List::WantReprDigest, List::WantUnencodedDigest].into_iter().any(|list| self.lists[list as usize].is_some())
    }

    /// What Accept-Encoding says.
    pub(crate) fn accepted(&self) -> Accepted {
        Accepted::parse(self.lines(List::AcceptEncoding))
    }
}

/// A field that may come once.
#[derive(Debug, Default)]
struct Once<'r> {
    first: Option<&'r [u8]>,
    came_again: bool,
}

impl<'r> Once<'r> {
    fn add(&mut self, value: &'r [u8]) {
        self.came_again |= self.first.is_some();
        self.first = Some(value);
    }

    fn any(&self) -> bool {
        self.first.is_some()
    }

    fn only(&self) -> Option<&'r [u8]> {
        self.first.filter(|_| !self.came_again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_head::tests::head;

    #[test]
    fn fields_that_may_come_once_and_those_that_are_lists() {
        let fields = Fields::of([]);
        assert_eq!((fields.hosts, fields.range()), ([None; 2], None));
        assert_eq!(fields.preconditions, Preconditions::default());
        assert!(!fields.has_transfer_encoding && !fields.has_credentials);

        let once = [
            ("host", "a.test"),
            ("range", "bytes=0-1"),
            ("if-range", "\"a\""),
            ("if-match", "\"b\""),
            ("if-none-match", "\"c\""),
            ("if-modified-since", "now"),
            ("if-unmodified-since", "then"),
            ("accept-encoding", "br"),
            ("cookie", "a=b"),
        ];
        let want = Preconditions {
            if_match: vec![b"\"b\""],
            if_none_match: vec![b"\"c\""],
            if_modified_since: Some(b"now"),
            if_unmodified_since: Some(b"then"),
            if_range: Some(b"\"a\""),
        };
        let request = head(&once);
        let fields = Fields::of(request.fields());
        assert_eq!((fields.hosts, fields.range()), ([Some(&b"a.test"[..]), None], Some(&b"bytes=0-1"[..])));
        assert_eq!(fields.preconditions, want);
        assert_eq!(fields.accepted(), Accepted::parse([&b"br"[..]]));
        assert!(fields.has_credentials);

        let again = head(&[&once[..], &[("host", "b.test"), ("host", "c.test")], &once[1..]].concat());
        let fields = Fields::of(again.fields());
        assert!(fields.hosts.iter().all(Option::is_some), "too many");
        assert_eq!(fields.range(), None);
        let want = Preconditions {
            if_match: vec![b"\"b\""; 2],
            if_none_match: vec![b"\"c\""; 2],
            if_modified_since: None,
            if_unmodified_since: None,
            if_range: Some(b""),
        };
        assert_eq!(fields.preconditions, want);
        assert_eq!(fields.lines(List::AcceptEncoding).collect::<Vec<_>>(), [b"br"; 2]);
        let one = head(&[("Accept", "a")]);
        assert_eq!(Fields::of(one.fields()).lines(List::Accept).collect::<Vec<_>>(), [b"a"]);
    }

    #[test]
    fn what_came_three_times_did_not_come_once() {
        let three = head(&[("range", "bytes=0-1"), ("range", "bytes=0-2"), ("range", "bytes=0-3")]);
        assert_eq!(Fields::of(three.fields()).range(), None);
    }
}
