//! Token counts that an answer carries in its `usage`, found in the bytes as they pass.

use memchr::memmem;

/// `usage` of OpenAI's and Anthropic's answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: Option<u64>,
    pub(crate) completion_tokens: Option<u64>,
}

impl Usage {
    /// Looks into a chunk. What a later one says counts; Anthropic's streams tell the input at the
    /// beginning and the output at the end.
    pub(crate) fn look_into(&mut self, chunk: &[u8]) {
        let Some(at) = memmem::rfind(chunk, b"\"usage\":") else { return };
        let usage = &chunk[at..];
        let either = |names: [&[u8]; 2]| names.into_iter().find_map(|name| number(usage, name));
        let prompt = either([b"\"prompt_tokens\":", b"\"input_tokens\":"]);
        let completion = either([b"\"completion_tokens\":", b"\"output_tokens\":"]);
        self.prompt_tokens = prompt.or(self.prompt_tokens);
        self.completion_tokens = completion.or(self.completion_tokens);
    }
}

fn number(json: &[u8], name: &[u8]) -> Option<u64> {
    let at = memmem::find(json, name)? + name.len();
    let value = json[at..].trim_ascii_start();
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&str], prompt: Option<u64>, completion: Option<u64>) {
        let mut usage = Usage::default();
        chunks.iter().for_each(|chunk| usage.look_into(chunk.as_bytes()));
        assert_eq!(usage, Usage { prompt_tokens: prompt, completion_tokens: completion });
    }

    #[test]
    fn openais_and_anthropics_counts_are_found() {
        check(
            &[r#"{"usage":{"prompt_tokens":12,"total_tokens":17,"completion_tokens": 5}}"#],
            Some(12),
            Some(5),
        );
        check(
            &[
                r#"data: {"message":{"usage":{"input_tokens":7,"output_tokens":0}}}"#,
                r#"data: {"usage":{"output_tokens":9}}"#,
            ],
            Some(7),
            Some(9),
        );
    }

    #[test]
    fn no_usage_is_no_count() {
        check(
            &[r#"{"usage":null}"#, "data: [DONE]", r#"{"usage":{"prompt_tokens":"x"}}"#],
            None,
            None,
        );
    }
}
