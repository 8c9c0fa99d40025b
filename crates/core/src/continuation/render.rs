//! Events in the shape of those that the client has had so far, made of another server's.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::Api;
use super::event::{DATA, DONE, END, Part, Usage};
use super::frame::Frame;
use super::resume::Seam;
use super::transcript::Transcript;
use crate::json_members::{members, number};

/// What the events of one continued answer are made with.
pub(super) struct Renderer<'a> {
    pub(super) api: Api,
    pub(super) envelope: &'a [u8],
    pub(super) frame: Option<&'a Frame>,
    pub(super) seam: &'a Seam,
}

impl Renderer<'_> {
    /// The event in the shape that vLLM gives it, with `text` as written between quotes. None if
    /// the other server's usage makes no sense.
    pub(super) fn event(&self, block: &[u8], part: &Part, text: &[u8]) -> Option<Vec<u8>> {
        let mut event = Vec::with_capacity(block.len() + text.len());
        let finish = part.choice.as_ref().and_then(|choice| choice.finish.clone());
        let is_ordinary = part.choice.is_some() && finish.is_none() && part.usage.is_none();
        if let Some(frame) = self.frame.filter(|_| is_ordinary) {
            frame.put(&mut event, text);
            return Some(event);
        }
        event.extend_from_slice(DATA);
        event.extend_from_slice(self.envelope);
        event.extend_from_slice(b"\"choices\":[");
        if let Some(choice) = &part.choice {
            let written =
                |at: &Option<Range<usize>>| at.clone().map_or(&b"null"[..], |at| &block[at]);
            self.choice(&mut event, text, written(&choice.finish), written(&choice.stop_reason));
        }
        event.push(b']');
        if let Some(usage) = part.usage.clone() {
            event.extend_from_slice(b",\"usage\":");
            event.extend_from_slice(self.usage(block, usage)?.as_bytes());
        }
        if let Some(fingerprint) = part.fingerprint.clone() {
            event.extend_from_slice(b",\"system_fingerprint\":");
            event.extend_from_slice(&block[fingerprint]);
        }
        event.push(b'}');
        event.extend_from_slice(END);
        Some(event)
    }

    fn choice(&self, event: &mut Vec<u8>, text: &[u8], finish: &[u8], stop_reason: &[u8]) {
        let names_ids = self.frame.is_none_or(Frame::names_ids);
        let ends = finish != b"null";
        let mut put =
            |pieces: &[&[u8]]| pieces.iter().for_each(|piece| event.extend_from_slice(piece));
        match self.api {
            Api::Chat => put(&[b"{\"index\":0,\"delta\":{\"content\":\"", text, b"\"}"]),
            Api::Completions => put(&[b"{\"index\":0,\"text\":\"", text, b"\""]),
        }
        put(&[b",\"logprobs\":null,\"finish_reason\":", finish]);
        if ends || self.api == Api::Completions {
            put(&[b",\"stop_reason\":", stop_reason]);
        }
        if names_ids && self.api == Api::Completions {
            put(&[b",\"prompt_token_ids\":null"]);
        }
        if names_ids {
            put(&[b",\"token_ids\":null"]);
        }
        put(&[b"}"]);
    }

    /// The usage as of an answer from one server: what was the answer's beginning is a part of the
    /// other's prompt.
    fn usage(&self, block: &[u8], at: Range<usize>) -> Option<String> {
        let theirs = Usage::read(block, at.clone())?;
        let prompt = theirs.prompt.checked_sub(self.seam.kept)?;
        let completion = theirs.completion + self.seam.kept;
        let mut usage = String::from("{");
        for member in members(block, at)? {
            let name = core::str::from_utf8(member.name).ok()?;
            let value = core::str::from_utf8(&block[member.value.clone()]).ok()?;
            let comma = if usage.len() > 1 { "," } else { "" };
            usage += &match name {
                "prompt_tokens" => format!("{comma}\"{name}\":{prompt}"),
                "completion_tokens" => format!("{comma}\"{name}\":{completion}"),
                "total_tokens" => format!("{comma}\"{name}\":{}", prompt + completion),
                "prompt_tokens_details" => {
                    format!("{comma}\"{name}\":{}", details(block, member.value, prompt))
                }
                _ => format!("{comma}\"{name}\":{value}"),
            };
        }
        usage.push('}');
        Some(usage)
    }
}

/// No more of the prompt can have been cached than there was.
fn details(block: &[u8], at: Range<usize>, prompt: u64) -> String {
    let mut text = String::from_utf8_lossy(&block[at.clone()]).into_owned();
    let found = members(block, at.clone()).unwrap_or_default();
    if let Some(member) = found.into_iter().find(|member| member.name == b"cached_tokens")
        && number::<u64>(&block[member.value.clone()]).is_some_and(|cached| cached > prompt)
    {
        let value = member.value.start - at.start..member.value.end - at.start;
        text.replace_range(value, &format!("{prompt}"));
    }
    text
}

/// What is missing of an answer that has said why it ends: its usage, if that is `wanted`, and the
/// end. None if the usage is not known.
pub(super) fn end(transcript: &Transcript, wanted: bool) -> Option<Vec<u8>> {
    let mut events = Vec::new();
    if wanted && !transcript.usage_told {
        let (prompt, completion) = (transcript.prompt_ids.len(), transcript.ids.len());
        if !transcript.knows_ids {
            return None;
        }
        events.extend_from_slice(DATA);
        events.extend_from_slice(&transcript.envelope);
        let usage = format!(
            "\"choices\":[],\"usage\":{{\"prompt_tokens\":{prompt},\"total_tokens\":{},\
             \"completion_tokens\":{completion}}}}}",
            prompt + completion
        );
        events.extend_from_slice(usage.as_bytes());
        events.extend_from_slice(END);
    }
    events.extend_from_slice(DONE);
    Some(events)
}
