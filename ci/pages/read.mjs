// Reads pages of reports as people with a browser do: at two widths, light and dark, everything opened. ci/readers runs it.
//   node read.mjs MODULES CHROMIUM PAGE...
// MODULES is the folder that axe-core and playwright-core were installed into. 1: a page is not accessible, is wider than
// a narrow screen, or breaks its own policy; what axe cannot decide about contrast is worked out here (contrast.mjs).

import { createRequire } from "node:module";
import { basename, join, resolve } from "node:path";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { contrastOf } from "./contrast.mjs";

const [modules, executablePath, ...pages] = process.argv.slice(2);
const require = createRequire(join(resolve(modules), "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const WIDTHS = [1280, 390];
const SCHEMES = ["light", "dark"];
// https://github.com/dequelabs/axe-core/blob/develop/doc/API.md#axe-core-tags
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
// A browser of its own, which asks nobody on the network for anything.
const ARGUMENTS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync", "--disable-background-networking",
];

const where = (node) => node.target.flat().join(" ");

async function toldOfContrast(page, undecided) {
  const nodes = undecided.filter((each) => each.id === "color-contrast").flatMap((each) => each.nodes);
  const found = await page.evaluate(contrastOf, nodes.map((node) => node.target.flat().at(-1)));
  return found.filter(({ ratio, least }) => !(ratio >= least))
    .map(({ target, ratio, least }) => `contrast ${ratio?.toFixed(2) ?? "unknown"} of ${target} is below ${least}`);
}

async function read(browser, file, width, colorScheme) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
  const wrong = [];
  const page = await context.newPage();
  page.on("console", (message) => message.type() === "error" && wrong.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => wrong.push(`script: ${error.message}`));
  page.on("request", (request) => request.url().startsWith("file:") || wrong.push(`asks for ${request.url()}`));
  await page.goto(pathToFileURL(resolve(file)).href);
  await page.evaluate(() => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
  const tooWide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (tooWide > 0) wrong.push(`is ${tooWide} px wider than the screen`);
  await page.evaluate(axe);
  const found = await page.evaluate(
    (values) => globalThis.axe.run({ runOnly: { type: "tag", values }, resultTypes: ["violations", "incomplete"] }), RULES,
  ).then(({ violations, incomplete }) => ({ violations, incomplete }));
  for (const { id, impact, help, nodes } of found.violations) {
    wrong.push(`${impact}: ${id}: ${help}: ${nodes.length} times, first ${where(nodes[0])}`);
  }
  wrong.push(...await toldOfContrast(page, found.incomplete));
  const undecided = found.incomplete.filter((each) => each.id !== "color-contrast");
  wrong.push(...undecided.map(({ id, help, nodes }) => `undecided: ${id}: ${help}: first ${where(nodes[0])}`));
  await context.close();
  return { wrong, worked: found.incomplete.filter((each) => each.id === "color-contrast").flatMap((each) => each.nodes).length };
}

const browser = await chromium.launch({ executablePath, args: ARGUMENTS });
let failed = false;
for (const file of pages) {
  for (const width of WIDTHS) {
    for (const scheme of SCHEMES) {
      const { wrong, worked } = await read(browser, file, width, scheme);
      failed ||= wrong.length > 0;
      const counted = worked ? `, contrast of ${worked} elements worked out here` : "";
      console.log(`${basename(file)} ${width} px ${scheme}: ${wrong.length ? "WRONG" : "accessible"}${counted}`);
      for (const each of wrong) console.log(`  ${each}`);
    }
  }
}
await browser.close();
process.exitCode = failed ? 1 : 0;
