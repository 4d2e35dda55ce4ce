// What was looked at, one after the other. A step that cannot be taken because another failed is left out.
// When all that is wrong is form, the whole is malformed.
import { Malformed, Refused } from "./bytes.mjs";

export class Steps {
  list = [];
  malformed = true;

  get ok() {
    return this.list.length > 0 && this.list.every((step) => step.ok);
  }

  // Runs a check; its value, or null when it refused. What it returns is no detail: that is for refusals.
  async take(id, check) {
    try {
      const value = await check();
      this.list.push({ id, ok: true, detail: "" });
      return value ?? true;
    } catch (error) {
      if (!(error instanceof Refused || error instanceof Malformed)) throw error;
      this.list.push({ id, ok: false, detail: error.message });
      this.malformed &&= error instanceof Malformed;
      return null;
    }
  }
}
