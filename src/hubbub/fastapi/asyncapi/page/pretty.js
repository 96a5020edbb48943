/**
 * JSON text with line breaks and indentation.
 *
 * It works on the text, not on the value: a number that JavaScript cannot hold, or a key that is there twice, is shown
 * as it came.
 */
const TOKENS = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g;
const STEP = "  ";

/** Whether there is a whole number in it that JavaScript, and so a form, would change. */
export function hasInexactNumber(text) {
  return (text.match(TOKENS) ?? []).some((token) => /^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token)));
}

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
