/**
 * JSON text with line breaks and indentation.
 *
 * It works on the text, not on the value: a number that JavaScript cannot hold, or a key that is there twice, is shown
 * as it came.
 */
const TOKENS = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g;
const STEP = "  ";

export function prettyJson(text) {
  const tokens = text.match(TOKENS) ?? [];
  let depth = 0;
  let result = "";
  tokens.forEach((token, index) => {
    const before = tokens[index - 1];
    const isEmpty = (token === "}" && before === "{") || (token === "]" && before === "[");
    if (token === "}" || token === "]") depth -= 1;
    const breaks = (before === "{" || before === "[" || before === "," || token === "}" || token === "]") && !isEmpty;
    if (breaks) result += `\n${STEP.repeat(depth)}`;
    result += token === ":" ? ": " : token;
    if (token === "{" || token === "[") depth += 1;
  });
  return result;
}
