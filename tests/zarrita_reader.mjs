// Reads an array by URL with zarrita, and prints its bytes, or how it was refused.
import * as zarr from "zarrita";

const [url] = process.argv.slice(2);
try {
  const array = await zarr.open(new zarr.FetchStore(url), { kind: "array" });
  const { data } = await zarr.get(array);
  process.stdout.write(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
} catch (error) {
  console.error(`refused: ${error}`);
  process.exit(3);
}
