"""The page of Readability."""

import gradio as gr

from readability import analyse, is_long

SAMPLE = (
    "The dormouse sleeps for half of the year. It eats well in autumn, finds a hole near the ground and curls up. "
    "When the days grow warmer, which in some valleys happens as early as April and in others not before the end of "
    "May, depending on the height, the wind and the kind of forest, it wakes within a few minutes and goes on as if "
    "nothing had happened."
)


def report(text: str) -> tuple[str, list[tuple[str, str | None]]]:
    """Summary and the sentences, the long ones marked."""
    found = analyse(text)
    if found is None:
        return "Write or paste a text first.", []
    minutes, seconds = divmod(found.seconds, 60)
    summary = (
        f"### Reading ease {found.score} of 100: {found.level}\n"
        f"**{found.words}** words · **{len(found.sentences)}** sentences · "
        f"**{minutes} min {seconds} s** to read · **{found.long_sentences}** long sentences"
    )
    return summary, [(sentence, "long" if is_long(sentence) else None) for sentence in found.sentences]


with gr.Blocks(title="Readability") as demo:
    gr.Markdown("# 📖 Readability\nHow hard is a text to read, and which sentences make it so?")
    with gr.Row():
        with gr.Column():
            text = gr.Textbox(SAMPLE, label="Text", lines=12, max_lines=24)
            button = gr.Button("Analyse", variant="primary")
        with gr.Column():
            summary = gr.Markdown()
            sentences = gr.HighlightedText(label="Sentences", color_map={"long": "orange"}, show_legend=True)
    button.click(report, text, [summary, sentences], api_name="analyse")

if __name__ == "__main__":
    demo.launch()
