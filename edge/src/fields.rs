//! The fields of a request that its answer depends on, gathered in one pass over its head.
//!
//! A look-up by name is such a pass too; there are a dozen names to ask for, and most requests have few of them.

use crate::conditional::Preconditions;
use crate::encoding::Accepted;

/// What the head of a request says.
#[derive(Debug, Default)]
pub(crate) struct Fields<'r> {
    /// The first two lines of Host: a second one is a mistake, and so is a third.
    pub(crate) hosts: [Option<&'r [u8]>; 2],
    pub(crate) preconditions: Preconditions<'r>,
    range: Once<'r>,
    accept_encoding: Lines<'r>,
    pub(crate) accept: Lines<'r>,
    pub(crate) sec_fetch_mode: Lines<'r>,
    pub(crate) want_repr_digest: Lines<'r>,
    pub(crate) want_unencoded_digest: Lines<'r>,
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
                b"accept-encoding" => fields.accept_encoding.add(value),
                b"accept" => fields.accept.add(value),
                b"sec-fetch-mode" => fields.sec_fetch_mode.add(value),
                b"want-repr-digest" => fields.want_repr_digest.add(value),
                b"want-unencoded-digest" => fields.want_unencoded_digest.add(value),
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

    /// Whether there is a wish for digests.
    pub(crate) fn wants_digests(&self) -> bool {
        self.want_repr_digest.first.is_some() || self.want_unencoded_digest.first.is_some()
    }

    /// What Accept-Encoding says.
    pub(crate) fn accepted(&self) -> Accepted {
        Accepted::parse(self.accept_encoding.iter())
    }
}

/// The lines of a list field. One line, as it mostly is, costs no memory.
#[derive(Debug, Default)]
pub(crate) struct Lines<'r> {
    first: Option<&'r [u8]>,
    others: Vec<&'r [u8]>,
}

impl<'r> Lines<'r> {
    fn add(&mut self, line: &'r [u8]) {
        if self.first.is_none() {
            self.first = Some(line);
        } else {
            self.others.push(line);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'r [u8]> {
        self.first.into_iter().chain(self.others.iter().copied())
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
        assert_eq!(fields.accept_encoding.iter().count(), 2);
        let one = head(&[("Accept", "a")]);
        assert_eq!(Fields::of(one.fields()).accept.iter().collect::<Vec<_>>(), [b"a"]);
    }

    #[test]
    fn what_came_three_times_did_not_come_once() {
        let three = head(&[("range", "bytes=0-1"), ("range", "bytes=0-2"), ("range", "bytes=0-3")]);
        assert_eq!(Fields::of(three.fields()).range(), None);
    }
}
