// How a result is opened elsewhere: commands, and links for those who have no token.
import { get, post, remove } from "./api.js";
import { when } from "./format.js";
import { say } from "./hooks.js";
import { html, useEffect, useState } from "./html.js";
import { Copyable, Trouble } from "./widgets.js";

const DAY = 86400;
const TIMES = [[3600, "an hour"], [DAY, "a day"], [7 * DAY, "a week"], [30 * DAY, "30 days"], [90 * DAY, "90 days"]];

function commandsOf(id, info, k) {
  const group = `${location.origin}/v1/results/${id}/zarr@${k}`;
  const secure = location.protocol === "https:";
  return [
    ["bigsvd", `import os\nimport bigsvd\n\nclient = bigsvd.Client("${location.origin}", os.environ["BIGSVD_TOKEN"])\na = client.open("${id}", k=${k})  # a Zarr array, computed where it is read\na[:10, :10]`],
    ["zarr", `import os\nimport zarr\nfrom obstore.store import HTTPStore\n\nheaders = {"Authorization": "Bearer " + os.environ["BIGSVD_TOKEN"]}  # a share link needs none\noptions = {"default_headers": headers${secure ? "" : ', "allow_http": True'}}\nstore = zarr.storage.ObjectStore(HTTPStore.from_url("${group}", client_options=options), read_only=True)\nzarr.open_array(store, path="reconstruction", mode="r")[:10, :10]`],
    ["xarray", `import xarray  # with the store of above\n\nxarray.open_zarr(store, consolidated=True).reconstruction[:10, :10].values`],
    ["command line, where the files are", `bigsvd rank ${info.path}\nbigsvd reconstruct ${info.path} -k ${k} --rows 0:10 --cols 0:10`],
  ];
}

export function OpenIt({ id, info, k }) {
  return html`<section aria-labelledby="open-it"><h2 id="open-it">Open it</h2>
    <div class="open-it">${commandsOf(id, info, k).map(([label, text]) => html`<${Copyable} key=${label} label=${label} text=${text} />`)}</div>
  </section>`;
}

export function Share({ path, k, known }) {
  const [links, setLinks] = useState([]);
  const [made, setMade] = useState(null);
  const [problem, setProblem] = useState(null);
  const [form, setForm] = useState({ seconds: 7 * DAY, name: "", only: false });
  const look = () => get(`${path}/links`).then((found) => setLinks(found.links || found)).catch(setProblem);
  useEffect(() => {
    look();
  }, [path]);
  const make = async (event) => {
    event.preventDefault();
    setProblem(null);
    try {
      setMade(await post(`${path}/links`, { seconds: Number(form.seconds), name: form.name, k: form.only ? k : null }));
      say("the link is made");
      look();
    } catch (error) {
      setProblem(error);
    }
  };
  const revoke = async (link) => {
    try {
      await remove(`/v1/links/${encodeURIComponent(link.id)}`);
      if (made?.id === link.id) setMade(null);
      say("the link is revoked");
      look();
    } catch (error) {
      setProblem(error);
    }
  };
  return html`<section aria-labelledby="share"><h2 id="share">Share</h2>
    <p>Whoever has the link reads these factors and nothing else, without a token, until it ends or is revoked.</p>
    <form class="share" onSubmit=${make}>
      <label>holds for <select value=${form.seconds} onChange=${(event) => setForm({ ...form, seconds: event.target.value })}>
        ${TIMES.map(([value, words]) => html`<option key=${value} value=${value} selected=${Number(form.seconds) === value}>${words}</option>`)}</select></label>
      <label>for whom <input type="text" value=${form.name} placeholder="a name for your list" onInput=${(event) => setForm({ ...form, name: event.target.value })} /></label>
      ${known > 1 && html`<label class="check"><input type="checkbox" checked=${form.only} onChange=${(event) => setForm({ ...form, only: event.target.checked })} />only the first ${k} triplets</label>`}
      <button type="submit">Make a link</button>
    </form>
    <${Trouble} problem=${problem} />
    ${made && html`<div class="made">
      <${Copyable} label="link to the Zarr array" text=${new URL(made.url, location.origin).href} />
      <p class="hint">It is shown this once. <code>zarr.open_array(link)</code>, a browser, napari and QGIS open it.</p></div>`}
    ${links.length > 0 && html`<table class="small-table links"><caption>Links that hold</caption>
      <thead><tr><th scope="col">for</th><th scope="col">k</th><th scope="col">until</th><td></td></tr></thead>
      <tbody>${links.map((link) => html`<tr key=${link.id}><td>${link.name || "–"}</td><td>${link.k ?? "all"}</td><td>${link.expires ? new Date(link.expires).toLocaleString("en-GB") : when(null)}</td>
        <td><button type="button" class="small danger" onClick=${() => revoke(link)} aria-label=${`Revoke the link ${link.name}`}>revoke</button></td></tr>`)}</tbody></table>`}
  </section>`;
}
