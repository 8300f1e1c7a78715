// What the page says when something is in the way, to people who may be far from the computer that runs Moshi.

export const LOST = "The connection to Moshi is lost. Its computer may have been switched off, or this device may have left its network.";
export const FAILED = "Moshi has stopped working. Whoever runs it sees the reason on its computer.";
export const KEYLESS = "This address is not complete. Open the whole address that you were given, to its last letter.";
export const SILENCED = "The system has taken the sound away, for a call perhaps. The talk goes on when it gives it back; "
  + "touch the page if it doesn't.";
export const WRITTEN = "What you say is written down, too, by a second model on Moshi's computer.";
export const UNANSWERED = "The talk isn't saved: the computer that runs Moshi doesn't answer.";
export const SAVED = "The talk is saved up to here. To go on from here, choose it below the big button before the next talk.";
export const RESUMED = "This goes on with a saved talk: Moshi remembers what was said in it.";
export const MACHINE = "You are talking with a machine: Moshi is an AI.";
export const MARKED = "Its voice carries an inaudible mark that tells so, also later.";
export const UNMARKED = "Its voice carries no mark here, so that a recording of it can't be recognised later.";

// A line of the server's, as it is read by people.
export function sentence(line) {
  const text = line.trim();
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
