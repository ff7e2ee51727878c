//! Filters of others at ingress that set firewall marks: only looked at, so that two who use one range of marks hear of it.

use std::collections::BTreeSet;

use netlink_packet_core::{NLM_F_DUMP, Nla};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionOption, TcAttribute, TcFilterFlowerOption,
    TcFilterMatchAllOption, TcFilterU32Option, TcMessage, TcOption,
};

use super::{INGRESS, filter_id, message};
use crate::connection::Net;
use crate::error::{Error, Object};

/// TCA_SKBEDIT_MARK (`linux/tc_act/tc_skbedit.h`).
const SKBEDIT_MARK: u16 = 5;

/// A mark that a filter of somebody else sets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignMark {
    /// The filter's priority.
    pub priority: u16,
    /// Its classifier, such as `flower`.
    pub classifier: String,
    /// The mark.
    pub mark: u32,
}

impl Net {
    /// The marks that others' filters set at the ingress of a link: those of `flower`, `u32` and `matchall`.
    pub async fn foreign_marks(&self, link: u32) -> Result<BTreeSet<ForeignMark>, Error> {
        let object = Object::All("ingress filters");
        let request = RouteNetlinkMessage::GetTrafficFilter(message(link, INGRESS, 0, 0));
        let answers = self.exchange("list", &object, request, NLM_F_DUMP).await?;
        let filters = answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewTrafficFilter(filter) if filter_id(filter).is_none() => {
                Some(filter)
            }
            _ => None,
        });
        Ok(filters.flat_map(marks).collect())
    }
}

fn marks(filter: &TcMessage) -> Vec<ForeignMark> {
    let classifier = filter
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind.clone()),
            _ => None,
        });
    let options = filter
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        });
    let actions = options.flatten().filter_map(|option| match option {
        TcOption::Flower(TcFilterFlowerOption::Actions(actions))
        | TcOption::U32(TcFilterU32Option::Action(actions))
        | TcOption::MatchAll(TcFilterMatchAllOption::Action(actions)) => Some(actions),
        _ => None,
    });
    actions
        .flatten()
        .filter_map(mark)
        .map(|mark| ForeignMark {
            priority: u16::try_from(filter.header.info >> 16).unwrap_or_default(),
            classifier: classifier.clone().unwrap_or_default(),
            mark,
        })
        .collect()
}

/// The mark that an action sets, if it is `skbedit` and sets one.
fn mark(action: &TcAction) -> Option<u32> {
    let edits = action
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, TcActionAttribute::Kind(kind) if kind == "skbedit"));
    let mut options = action
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            TcActionAttribute::Options(options) => Some(options),
            _ => None,
        });
    let option = options.find_map(|options| {
        options.iter().find_map(|option| match option {
            TcActionOption::Other(other) if other.kind() == SKBEDIT_MARK => Some(other),
            _ => None,
        })
    });
    let mut bytes = [0; 4];
    let option = option.filter(|option| edits && option.value_len() == bytes.len())?;
    option.emit_value(&mut bytes);
    Some(u32::from_ne_bytes(bytes))
}
