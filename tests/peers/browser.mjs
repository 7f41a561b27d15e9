// A real Chromium for sign-ins, without a window: it clicks through the authorization server's pages.
//
//   node browser.mjs --chromium PATH [--log FILE] [--deny | --leave | --delay SECONDS] URL
//
// It logs in as anybody and agrees to everything. With `--deny` it clicks on the way out that the
// page offers, with `--leave` it looks at the first page and goes, with `--delay` the user takes a
// while. The log gets `opened URL` first and at the end `ended URL: what the page says`.

import fs from "node:fs";
import { parseArgs } from "node:util";

import { chromium } from "playwright-core";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    chromium: { type: "string" },
    log: { type: "string" },
    deny: { type: "boolean", default: false },
    leave: { type: "boolean", default: false },
    delay: { type: "string", default: "0" },
  },
});
const [url] = positionals;
const note = (text) => options.log && fs.appendFileSync(options.log, `${text}\n`);

const MOST = 8; // pages of one sign-in; a server that shows more goes in circles
const DENY = "a[href$='/abort'], button[name=abort]";
const AGREE = "button[type=submit]";

// A page may send itself off; only where the redirect has ended nothing can follow.
const isLast = (url) => new URL(url).pathname.endsWith("/callback");
const SETTLED = 1_000;

note(`opened ${url}`);
const browser = await chromium.launch({
  executablePath: options.chromium,
  chromiumSandbox: false, // root has none
  timeout: 30_000,
  args: [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // The pages ask for a font of somebody far away.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
  ],
});
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(20_000);
  const arrive = { waitUntil: "domcontentloaded" };
  await page.goto(url, arrive);
  await new Promise((resolve) => setTimeout(resolve, Number(options.delay) * 1000));
  for (let count = 0; !options.leave && count < MOST; count++) {
    if (isLast(page.url())) break;
    const button = page.locator(options.deny ? DENY : AGREE).first();
    const appears = button.waitFor({ timeout: SETTLED });
    if (!(await appears.then(() => true, () => false))) break;
    for (const name of ["login", "password"]) {
      const field = page.locator(`input[name=${name}]`);
      if (!options.deny && (await field.count()) > 0) await field.fill("somebody");
    }
    await Promise.all([page.waitForNavigation(arrive), button.click()]);
  }
  const text = await page.locator("body").innerText();
  note(`ended ${page.url()}: ${text.replace(/\s+/g, " ").trim()}`);
} finally {
  await browser.close();
}
