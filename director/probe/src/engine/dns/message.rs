//! CORE: a DNS query, and how an answer to it is judged. The codec is the crate `domain`'s.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::str::FromStr;

use domain::base::iana::Rtype;
use domain::base::name::ParsedName;
use domain::base::zonefile_fmt::{DisplayKind, ZonefileFmt};
use domain::base::{Message, MessageBuilder, Name, ParsedRecord};
use domain::rdata::AllRecordData;

/// A query that waits for its answer.
#[derive(Debug)]
pub(super) struct Query {
    id: u16,
    name: Name<Vec<u8>>,
    record: Rtype,
    octets: Vec<u8>,
}

/// What is accepted.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    /// Response codes.
    pub(super) rcode: &'a [u8],
    /// A record that must be there, as zone files write it.
    pub(super) answer: Option<&'a str>,
}

/// What an answer is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Healthy, and in a few words why.
    Accepted(String),
    /// Not healthy, and why.
    Refused(String),
    /// It answers another query, or is no answer at all.
    Foreign,
    /// It did not fit: ask again over TCP.
    Truncated,
}

impl Query {
    /// Asks for the records of a type that a name has. The error says what cannot be asked.
    pub(super) fn new(id: u16, name: &str, record: &str) -> Result<Query, String> {
        let cannot = |what: &str| format!("`{what}` cannot be asked for");
        let name = Name::<Vec<u8>>::from_str(name).map_err(|_| cannot(name))?;
        let record = Rtype::from_str(record).map_err(|_| cannot(record))?;
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(id);
        builder.header_mut().set_rd(true);
        let mut question = builder.question();
        question
            .push((&name, record))
            .map_err(|_| cannot("this name"))?;
        let octets = question.finish();
        Ok(Query {
            id,
            name,
            record,
            octets,
        })
    }

    /// As it goes over the wire.
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Judges what came back. Whatever the bytes are, this ends.
    pub(super) fn judge(&self, octets: &[u8], expected: &Expected<'_>) -> Judgement {
        let Ok(message) = Message::from_octets(octets) else {
            return Judgement::Foreign;
        };
        let header = message.header();
        if header.id() != self.id || !header.qr() || !self.is_asked_in(&message) {
            return Judgement::Foreign;
        }
        let rcode = header.rcode();
        if !expected.rcode.contains(&rcode.to_int()) {
            return Judgement::Refused(rcode.to_string());
        }
        if header.tc() {
            return Judgement::Truncated;
        }
        let Ok(records) = self.records(&message) else {
            return Judgement::Refused("its records cannot be read".to_owned());
        };
        match expected.answer {
            Some(wanted) if !records.iter().any(|record| same(record, wanted)) => {
                let seen = match records.first() {
                    Some(first) => format!("{} records, the first is {first}", records.len()),
                    None => "no record".to_owned(),
                };
                Judgement::Refused(format!("`{wanted}` is not in it ({seen})"))
            }
            _ => Judgement::Accepted(format!("{rcode}, {} records", records.len())),
        }
    }

    /// The answer repeats the question. A server that cannot read a query may leave the question out of its error.
    fn is_asked_in(&self, message: &Message<&[u8]>) -> bool {
        match message.sole_question() {
            Ok(question) => question.qtype() == self.record && *question.qname() == self.name,
            Err(_) => message.header_counts().qdcount() == 0 && message.is_error(),
        }
    }

    /// The records of the asked type in the answer section, as zone files write them.
    fn records(&self, message: &Message<&[u8]>) -> Result<Vec<String>, ()> {
        let mut records = Vec::new();
        for record in message.answer().map_err(|_| ())? {
            let record: ParsedRecord<'_, &[u8]> = record.map_err(|_| ())?;
            if record.rtype() != self.record {
                continue;
            }
            let data = record
                .to_any_record::<AllRecordData<&[u8], ParsedName<&[u8]>>>()
                .map_err(|_| ())?;
            let text = data.data().display_zonefile(DisplayKind::Simple);
            records.push(text.to_string());
        }
        Ok(records)
    }
}

/// Zone files leave a choice: capitals in names, blanks, a final dot, quotes around a single string.
fn same(record: &str, wanted: &str) -> bool {
    let plain = |text: &str| {
        let words: Vec<&str> = text
            .split_ascii_whitespace()
            .map(|word| word.trim_end_matches('.'))
            .collect();
        let text = words.join(" ").to_ascii_lowercase();
        let inner = text
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        match inner {
            Some(inner) if !inner.contains('"') => inner.to_owned(),
            _ => text,
        }
    };
    plain(record) == plain(wanted)
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests may panic")]
mod tests {
    use domain::base::iana::Rcode;
    use domain::rdata::{A, Mx, Txt};
    use proptest::prelude::*;

    use super::*;

    const ANY: Expected<'static> = Expected {
        rcode: &[0],
        answer: None,
    };

    fn name(text: &str) -> Name<Vec<u8>> {
        Name::from_str(text).unwrap()
    }

    /// An answer to `query` with the records that `fill` adds.
    fn answer(
        query: &Query,
        change: impl FnOnce(&mut domain::base::Header),
        addresses: &[[u8; 4]],
    ) -> Vec<u8> {
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(query.id);
        builder.header_mut().set_qr(true);
        change(builder.header_mut());
        let mut question = builder.question();
        question.push((&query.name, query.record)).unwrap();
        let mut records = question.answer();
        for [a, b, c, d] in addresses {
            records
                .push((&query.name, 60, A::from_octets(*a, *b, *c, *d)))
                .unwrap();
        }
        records.finish()
    }

    fn wanting(answer: &str) -> Expected<'_> {
        Expected {
            rcode: &[0],
            answer: Some(answer),
        }
    }

    #[test]
    fn a_query_is_what_rfc_1035_says() {
        let query = Query::new(0x1234, "shop.example", "A").unwrap();
        let expected =
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04shop\x07example\x00\x00\x01\x00\x01";
        assert_eq!(query.octets(), expected);
        let root = Query::new(1, ".", "SOA").unwrap();
        assert!(root.octets().ends_with(b"\x00\x00\x06\x00\x01"));
        assert!(Query::new(1, "a..b", "A").is_err() && Query::new(1, "a", "AXF").is_err());
        for record in ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"] {
            Query::new(1, ".", record).unwrap();
        }
    }

    #[test]
    fn the_answer_must_be_to_the_query_and_hold_the_record() {
        let query = Query::new(7, "shop.example", "A").unwrap();
        let good = answer(&query, |_| {}, &[[10, 0, 0, 1], [10, 0, 0, 2]]);
        assert_eq!(
            query.judge(&good, &ANY),
            Judgement::Accepted("NOERROR, 2 records".to_owned())
        );
        assert!(matches!(
            query.judge(&good, &wanting("10.0.0.2")),
            Judgement::Accepted(_)
        ));
        assert_eq!(
            query.judge(&good, &wanting("10.0.0.3")),
            Judgement::Refused(
                "`10.0.0.3` is not in it (2 records, the first is 10.0.0.1)".to_owned()
            )
        );
        let empty = answer(&query, |_| {}, &[]);
        assert_eq!(
            query.judge(&empty, &wanting("10.0.0.3")),
            Judgement::Refused("`10.0.0.3` is not in it (no record)".to_owned())
        );
        let foreign = [
            answer(&query, |header| header.set_id(8), &[]),
            answer(&query, |header| header.set_qr(false), &[]),
            answer(&Query::new(7, "other.example", "A").unwrap(), |_| {}, &[]),
            answer(&Query::new(7, "shop.example", "AAAA").unwrap(), |_| {}, &[]),
            b"short".to_vec(),
        ];
        for octets in foreign {
            assert_eq!(query.judge(&octets, &ANY), Judgement::Foreign);
        }
        let capitals = Query::new(7, "SHOP.example", "A").unwrap();
        let capitals = answer(&capitals, |_| {}, &[]);
        assert!(matches!(
            query.judge(&capitals, &ANY),
            Judgement::Accepted(_)
        ));
    }

    #[test]
    fn codes_and_truncation() {
        let query = Query::new(7, "shop.example", "A").unwrap();
        let missing = answer(&query, |header| header.set_rcode(Rcode::NXDOMAIN), &[]);
        assert_eq!(
            query.judge(&missing, &ANY),
            Judgement::Refused("NXDOMAIN".to_owned())
        );
        let both = Expected {
            rcode: &[0, 3],
            answer: None,
        };
        assert!(matches!(
            query.judge(&missing, &both),
            Judgement::Accepted(_)
        ));
        let truncated = answer(&query, |header| header.set_tc(true), &[]);
        assert_eq!(query.judge(&truncated, &ANY), Judgement::Truncated);
        let mut bare = MessageBuilder::new_vec();
        bare.header_mut().set_id(7);
        bare.header_mut().set_qr(true);
        bare.header_mut().set_rcode(Rcode::FORMERR);
        assert_eq!(
            query.judge(&bare.finish(), &ANY),
            Judgement::Refused("FORMERR".to_owned()),
            "an error may come without the question"
        );
        let mut cut = answer(&query, |_| {}, &[[10, 0, 0, 1]]);
        cut.truncate(cut.len() - 2);
        assert_eq!(
            query.judge(&cut, &ANY),
            Judgement::Refused("its records cannot be read".to_owned())
        );
    }

    #[test]
    fn records_are_compared_as_zone_files_write_them() {
        let query = Query::new(7, "shop.example", "MX").unwrap();
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(7);
        builder.header_mut().set_qr(true);
        let mut question = builder.question();
        question.push((&query.name, query.record)).unwrap();
        let mut records = question.answer();
        let mail = Mx::new(10, name("mail.shop.example"));
        records.push((&query.name, 60, mail)).unwrap();
        let octets = records.finish();
        for wanted in ["10 mail.shop.example.", "10  MAIL.shop.example"] {
            assert!(
                matches!(
                    query.judge(&octets, &wanting(wanted)),
                    Judgement::Accepted(_)
                ),
                "{wanted}"
            );
        }
        let text = Txt::<Vec<u8>>::build_from_slice(b"v=spf1 -all").unwrap();
        let shown = text.display_zonefile(DisplayKind::Simple).to_string();
        assert!(same(&shown, "v=spf1 -all") && same(&shown, "\"v=spf1 -all\""));
        assert!(!same(&shown, "v=spf1"));
    }

    proptest! {
        /// No bytes, whether noise or a damaged answer, do more than give a judgement.
        #[test]
        fn hostile_answers_are_judged(
            noise in prop::collection::vec(any::<u8>(), 0..300),
            at in 0usize..80,
            flip in 1u8..,
        ) {
            let query = Query::new(7, "shop.example", "A").unwrap();
            let wanted = wanting("10.0.0.1");
            query.judge(&noise, &wanted);
            let mut damaged = answer(&query, |_| {}, &[[10, 0, 0, 1], [10, 0, 0, 2]]);
            if let Some(byte) = damaged.get_mut(at) {
                *byte ^= flip;
            }
            query.judge(&damaged, &wanted);
            let mut answered = query.octets().to_vec();
            answered[2] |= 0x80;
            answered.extend(&noise);
            query.judge(&answered, &wanted);
        }
    }
}
