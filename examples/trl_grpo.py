"""The pocket student reinforced by TRL's GRPOTrainer (1.16), which also knows many GPUs and vLLM.

`python examples/trl_grpo.py CLIPS OUTPUT`. A call that is not JSON ends a dialogue there, a tool
unknown is refused in other words, and nobody asks for a letter where the budget is spent.
"""

import sys
from pathlib import Path

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, chat_template_utils

from act2see.dialects.calls import CALLS, segments
from act2see.interleave import take_turn
from act2see.pocket.environment import Action, PocketEnvironment
from act2see.profiles import POCKET
from act2see.reinforce import starting_model
from act2see.rewards import naive
from act2see.student import load_processor
from act2see.trace import Reply, Step


def trainer(clips: Path, output: str, questions: int, **settings: object) -> GRPOTrainer:
    """TRL's trainer of the shipped student; `settings` are fields of its GRPOConfig."""
    processor = load_processor(POCKET.student)
    processor.tokenizer.response_template = chat_template_utils.qwen3_template
    # TRL needs turns that read alike whatever follows: an empty thought is in the last turn alone.
    processor.chat_template = processor.chat_template.replace("(loop.last or thought)", "true")

    class Rollout(PocketEnvironment):
        def reset(self, seed: int, **row: object) -> list[dict]:
            super().reset(seed)
            return CALLS.messages(self.state)[0]["content"]

        def retrieve_frames(self, **window: object) -> list[dict]:
            call = Step(kind="call", tool="retrieve_frames", arguments=window)
            take_turn(self.state, Reply(calls=[call]), POCKET.tools, POCKET.budget)
            return CALLS.messages(self.state)[-1]["content"]

    def earned(completion_ids: list, environments: list, seed: list, **rest: object) -> list[float]:
        for ids, world, number in zip(completion_ids, environments, seed, strict=True):
            world.reset(number)  # once more, with the words: TRL tells a tool its arguments alone
            text = "<|im_start|>assistant\n<think>\n" + processor.tokenizer.decode(ids)
            for turn in (part.text for part in segments(text) if part.spoken and not world.done):
                world.step(Action(text=turn, truncated=not turn.endswith("<|im_end|>")))
        return [naive(world.state) for world in environments]

    rows = [{"prompt": [{"role": "user", "content": ""}], "seed": n} for n in range(questions)]
    model = starting_model(POCKET.student, POCKET.adapter, POCKET.recipe, four_bit=False)
    ours = {"epsilon_high": 0.28, "temperature": 0.4, "max_tool_calling_iterations": 5}
    pixels = {"processor_kwargs": {"images_kwargs": {"return_tensors": "pt"}}}  # PIL's are arrays
    args = GRPOConfig(output, chat_template_kwargs=pixels, **ours, **settings)
    world = {"processing_class": processor, "environment_factory": lambda: Rollout(clips)}
    made = GRPOTrainer(model, earned, args, Dataset.from_list(rows), **world)
    made._env_tools[None] = [tool.schema() for tool in POCKET.tools]  # as the student knows them
    return made


if __name__ == "__main__":
    trainer(Path(sys.argv[1]), sys.argv[2], 8, max_steps=3, bf16=False, report_to="none").train()
